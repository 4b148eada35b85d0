//! Calls end once and replies reach the right caller, over real sockets and with killed processes.

mod killed_processes;
mod killed_service;
mod reply_isolation;
