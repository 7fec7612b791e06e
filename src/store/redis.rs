//! Records in redis.
