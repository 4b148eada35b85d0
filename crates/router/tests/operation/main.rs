//! The program `router` and its life: options, sockets, signals, restarts.

mod default_socket;
mod descriptor_exhaustion;
mod full_pipes;
mod half_open;
mod program;
mod reload;
mod restarts;
mod sent_descriptors;
mod signals;
mod socket_file;
mod stopping;
mod suspend;
