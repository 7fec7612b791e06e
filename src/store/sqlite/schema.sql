-- The tables of a file, version 2. Names begin with onceflight_: the file may be an application's own.

CREATE TABLE onceflight_meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a number that was ever given isn't given again, whatever is deleted. So it is the fence.
CREATE TABLE onceflight_records (
    epoch       INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    scope       BLOB    NOT NULL,
    key         BLOB    NOT NULL,
    fingerprint BLOB,
    state       INTEGER NOT NULL CHECK (state IN (1, 2, 3)),
    token       BLOB    NOT NULL CHECK (length(token) = 16),
    attempt     INTEGER NOT NULL CHECK (attempt > 0),
    boot        BLOB    NOT NULL CHECK (length(boot) = 16),
    lease_until INTEGER,
    keep        INTEGER,
    expires     INTEGER,
    watched     INTEGER NOT NULL DEFAULT 0,
    status      INTEGER,
    checkpoint  BLOB,
    body        BLOB CHECK ((body IS NOT NULL) = (state = 2) AND (status IS NOT NULL) = (state = 2))
) STRICT;

-- For lists.
CREATE INDEX onceflight_records_scope ON onceflight_records (scope, id);

-- For the purge. Without what is in progress, which would be written into it at the claim and moved when it
-- completes: that is a page more to sync each time.
CREATE INDEX onceflight_records_expires ON onceflight_records (expires) WHERE state <> 1 AND expires IS NOT NULL;

-- What was settled while somebody waited for it: the last 1024.
CREATE TABLE onceflight_news (
    number INTEGER PRIMARY KEY,
    id     BLOB NOT NULL
) STRICT;

-- Whoever takes a mark away tells, in the same transaction, with whatever statement.
CREATE TRIGGER onceflight_settled AFTER UPDATE OF watched ON onceflight_records
WHEN old.watched AND NOT new.watched BEGIN
    INSERT INTO onceflight_news (id) VALUES (old.id);
    DELETE FROM onceflight_news WHERE number <= (SELECT max(number) FROM onceflight_news) - 1024;
END;

CREATE TRIGGER onceflight_dropped AFTER DELETE ON onceflight_records
WHEN old.watched BEGIN
    INSERT INTO onceflight_news (id) VALUES (old.id);
    DELETE FROM onceflight_news WHERE number <= (SELECT max(number) FROM onceflight_news) - 1024;
END;

INSERT INTO onceflight_meta VALUES ('schema', 2);
