//! Records in memcached.
