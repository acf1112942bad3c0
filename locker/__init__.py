"""A bank of compartments: parcels, pickup codes, doors, lock boards and the kiosk's server."""
