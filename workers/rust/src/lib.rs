//! Receive connections from a tenfold master.
