//! The sessions of a replicated state machine: what is answered, what is kept, and that it is the same
//! everywhere.

mod smoke;
