//! `ya-sb-router` at the address in `GSB_URL`. It ends when its standard input ends.

use std::error::Error;

use futures::StreamExt as _;
use gsb_interop::commands::commands;
use ya_sb_proto::GsbAddr;
use ya_sb_proto::codec::GsbMessage;
use ya_sb_router::{InstanceConfig, RouterConfig};

fn main() -> Result<(), Box<dyn Error>> {
    actix::System::new().block_on(async {
        let url = std::env::var("GSB_URL")?.parse()?;
        let router = InstanceConfig::new(RouterConfig::from_env());
        actix::spawn(router.bind_url(Some(url)).await?);

        // Its Hello shows that it is ready, and its version.
        let (_sink, mut stream) = ya_sb_router::connect(GsbAddr::default()).await;
        match stream.next().await {
            Some(Ok(GsbMessage::Hello(hello))) => {
                println!("ready {} {}", hello.name, hello.version)
            }
            other => return Err(format!("instead of a Hello came {other:?}").into()),
        }

        let mut commands = commands();
        while commands.recv().await.is_some() {}
        Ok(())
    })
}
