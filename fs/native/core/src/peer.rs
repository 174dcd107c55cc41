//! Calls to peers by node or chain, with retries that respect deadlines and routing.
