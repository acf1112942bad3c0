BEGIN TRANSACTION;
CREATE TABLE badge (
	badge TEXT NOT NULL, 
	tries INTEGER NOT NULL, 
	PRIMARY KEY (badge)
);
CREATE TABLE booking (
	booking TEXT NOT NULL, 
	state TEXT NOT NULL, 
	size TEXT NOT NULL, 
	low INTEGER NOT NULL, 
	hold_hours INTEGER NOT NULL, 
	since FLOAT NOT NULL, 
	PRIMARY KEY (booking)
);
INSERT INTO "booking" VALUES('p-old','stored','S',0,72,12.5);
INSERT INTO "booking" VALUES('p-later','expected','M',1,24,20.0);
CREATE TABLE budget (
	one INTEGER NOT NULL, 
	running FLOAT NOT NULL, 
	attempts BLOB NOT NULL, 
	last_wall FLOAT, 
	last_running FLOAT, 
	rows_lost INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (one)
);
INSERT INTO "budget" VALUES(1,0.0,X'7B2277726F6E67223A5B5D2C22657874656E6465645F66726F6D223A302E302C2270696E735F756E74696C223A302E307D',NULL,NULL,0);
CREATE TABLE command (
	jti TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	name TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	issuer TEXT NOT NULL, 
	status TEXT NOT NULL, 
	result BLOB NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (jti)
);
INSERT INTO "command" VALUES('019aa8f0-7c1e-7abc-8def-0123456789ab','d','open','01','staff','done',X'0102',1800000000.0);
CREATE TABLE compartment (
	door TEXT NOT NULL, 
	state TEXT NOT NULL, 
	uses INTEGER NOT NULL, 
	PRIMARY KEY (door)
)
 WITHOUT ROWID

;
INSERT INTO "compartment" VALUES('01','occupied',3);
INSERT INTO "compartment" VALUES('02','free',1);
INSERT INTO "compartment" VALUES('03','blocked',0);
INSERT INTO "compartment" VALUES('04','free',0);
CREATE TABLE cursor (
	consumer TEXT NOT NULL, 
	epoch_no INTEGER NOT NULL, 
	class INTEGER NOT NULL, 
	starts INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	PRIMARY KEY (consumer, epoch_no, class)
)
 WITHOUT ROWID

;
CREATE TABLE epoch (
	no INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	previous TEXT NOT NULL, 
	instance TEXT NOT NULL, 
	PRIMARY KEY (no), 
	UNIQUE (id)
);
CREATE TABLE event (
	place INTEGER NOT NULL, 
	body BLOB NOT NULL, 
	hash BLOB, 
	epoch_no INTEGER GENERATED ALWAYS AS (place >> 48) VIRTUAL, 
	class INTEGER GENERATED ALWAYS AS ((place >> 46) & 3) VIRTUAL, 
	seq INTEGER GENERATED ALWAYS AS (place & 70368744177663) VIRTUAL, 
	PRIMARY KEY (place)
);
CREATE TABLE fact (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE gap (
	epoch_no INTEGER NOT NULL, 
	class INTEGER NOT NULL, 
	first INTEGER NOT NULL, 
	last INTEGER NOT NULL, 
	count INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (epoch_no, class, first)
)
 WITHOUT ROWID

;
CREATE TABLE newest_state (
	subject TEXT NOT NULL, 
	place INTEGER NOT NULL, 
	PRIMARY KEY (subject)
)
 WITHOUT ROWID

;
CREATE TABLE parcel (
	parcel TEXT NOT NULL, 
	door TEXT NOT NULL, 
	state TEXT NOT NULL, 
	courier TEXT NOT NULL, 
	run TEXT NOT NULL, 
	expires FLOAT, 
	stored_at FLOAT, 
	plain BLOB, 
	extended BLOB, 
	PRIMARY KEY (parcel), 
	UNIQUE (plain), 
	UNIQUE (extended)
);
INSERT INTO "parcel" VALUES('p-old','01','stored','courier-1','run-1',1800100000.0,50.0,X'11',X'12');
INSERT INTO "parcel" VALUES('p-gone','02','collected','courier-1','run-1',1800000000.0,20.0,X'21',X'22');
CREATE TABLE remote_opening (
	no INTEGER NOT NULL, 
	running FLOAT NOT NULL, 
	PRIMARY KEY (no)
);
INSERT INTO "remote_opening" VALUES(1,40.0);
CREATE TABLE revision (
	subject BLOB NOT NULL, 
	rev INTEGER NOT NULL, 
	until INTEGER NOT NULL, 
	PRIMARY KEY (subject)
)
 WITHOUT ROWID;
INSERT INTO "revision" VALUES(X'00112233445566778899AABBCCDDEEFF',3,1803888000);
CREATE TABLE tally (
	kind TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	minute INTEGER NOT NULL, 
	count INTEGER NOT NULL, 
	PRIMARY KEY (kind, reason, minute)
)
 WITHOUT ROWID

;
CREATE TABLE unlocking (
	door TEXT NOT NULL, 
	attempt TEXT NOT NULL, 
	session TEXT NOT NULL, 
	cause TEXT NOT NULL, 
	"before" TEXT NOT NULL, 
	parcel TEXT NOT NULL, 
	cause_id TEXT NOT NULL, 
	pulses INTEGER NOT NULL, 
	ended INTEGER NOT NULL, 
	opened INTEGER NOT NULL, 
	PRIMARY KEY (door)
)
 WITHOUT ROWID

;
CREATE INDEX parcel_door ON parcel (door);
PRAGMA user_version = 5;
COMMIT;
