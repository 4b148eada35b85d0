//! How an upload ends. Uploads need a service and a caller of level 1.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Call, Error, Failure, RequestStream};

use crate::setup::{Expected, World};

cases!(complete, both_ways, answered_early, failed, taken_by_no_handler, call_without_body);

/// Whether an upload is supported.
const IS_SUPPORTED: Expected<bool> = Expected {
    in_process: true,
    router: true,
    old_caller: false,
    old_service: false,
    both_old: false,
};

/// The result of an upload of ten parts to `/s`. `None` if uploads are not supported, and the caller was told so.
async fn upload(world: &World) -> Option<Result<Bytes, Error>> {
    let parts = stream::iter(0..10).map(|number| Bytes::from(number.to_string()));
    let result = world.caller.endpoint("/s").upload("first", parts).await;
    if world.expect(&IS_SUPPORTED) {
        return Some(result);
    }
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { target, .. } if target == "/s"), "{error}");
    None
}

async fn collect(call: Call, body: RequestStream) -> Result<String, Failure> {
    let parts: Vec<_> = body.try_collect().await?;
    Ok(format!("{:?} {:?}", call.data, parts.concat()))
}

async fn complete(world: &World) {
    let _service = world.service.register_upload("/s", collect).await.unwrap();
    if let Some(result) = upload(world).await {
        assert_eq!(result.unwrap(), format!("{:?} {:?}", Bytes::from("first"), b"0123456789"));
    }
}

async fn both_ways(world: &World) {
    let echo = |_: Call, body: RequestStream| body.map(|part| Ok(part?));
    let _service = world.service.register_upload_stream("/s", echo).await.unwrap();
    let parts = stream::iter(0..1000).map(|number| Bytes::from(number.to_string()));
    let replies = match world.caller.endpoint("/s").upload_stream("", parts).await {
        Ok(replies) => replies.try_collect::<Vec<_>>().await,
        Err(error) => Err(error),
    };
    match replies {
        Ok(replies) => {
            assert!(world.expect(&IS_SUPPORTED));
            assert!(replies.iter().zip(0..).all(|(reply, number)| *reply == number.to_string()));
            assert_eq!(replies.len(), 1000);
        }
        Err(error) => {
            assert!(!world.expect(&IS_SUPPORTED));
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        }
    }
}

async fn answered_early(world: &World) {
    let one =
        |_: Call, mut body: RequestStream| async move { Ok(body.next().await.ok_or("none")??) };
    let _service = world.service.register_upload("/s", one).await.unwrap();
    if let Some(result) = upload(world).await {
        assert_eq!(result.unwrap(), "0");
    }
}

async fn failed(world: &World) {
    let fails = |_: Call, _: RequestStream| async { Err::<Bytes, _>(Failure::new("it broke")) };
    let _service = world.service.register_upload("/s", fails).await.unwrap();
    if let Some(result) = upload(world).await {
        let (address, message) = ("/s".to_owned(), "it broke".to_owned());
        assert_eq!(result, Err(Error::ServiceFailure { address, message }));
    }
}

// Everywhere.
async fn taken_by_no_handler(world: &World) {
    let echo = |call: Call| async move { Ok(call.data) };
    let _service = world.service.register("/s", echo).await.unwrap();
    let result = world.caller.endpoint("/s").upload("", stream::empty()).await;
    assert!(matches!(result, Err(Error::Unsupported { .. })), "{result:?}");
}

async fn call_without_body(world: &World) {
    let _service = world.service.register_upload("/s", collect).await.unwrap();
    let reply = world.caller.call("/s", "call").await.unwrap();
    assert_eq!(reply, "b\"call\" []");
}
