//! Records in sqlite.
