//! Records in postgres.
