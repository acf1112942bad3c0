"""Carries signed bytes between a node and its consumers over MQTT; keeps no secret but its certificate, no database."""
