//! How an upload ends. Uploads need a service and a caller of level 1.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Call, Error, Failure, Message, RequestStream, UploadMessage};
use serde::{Deserialize, Serialize};

use crate::setup::{Expected, World};

cases!(
    complete,
    both_ways,
    answered_early,
    failed,
    taken_by_no_handler,
    call_without_body,
    typed_parts,
    typed_parts_and_answers,
    part_that_cannot_be_decoded,
);

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

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "join", item = String, error = String)]
struct Join(String);

impl UploadMessage for Join {
    type Part = (u32, String);
}

/// Joins the texts of all parts, whose numbers have to be in order.
async fn join(call: Call<Join>, mut parts: RequestStream<(u32, String)>) -> Result<String, String> {
    let (mut texts, mut next) = (Vec::new(), 0);
    while let Some(part) = parts.next().await {
        let (number, text) = part.map_err(|error| error.to_string())?;
        assert_eq!(number, next);
        next += 1;
        texts.push(text);
    }
    Ok(texts.join(&call.data.0))
}

async fn typed_parts(world: &World) {
    let _service = world.service.bind_upload("/s", join).await.unwrap();
    let parts = stream::iter((0..).zip(["one", "two", "three"].map(str::to_owned)));
    match world.caller.service("/s").upload(Join(", ".to_owned()), parts).await {
        Ok(answer) => {
            assert!(world.expect(&IS_SUPPORTED));
            assert_eq!(answer.unwrap(), "one, two, three");
        }
        Err(error) => {
            assert!(!world.expect(&IS_SUPPORTED));
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        }
    }
    // Without a body.
    let answer = world.caller.service("/s").call(Join(", ".to_owned())).await.unwrap();
    assert_eq!(answer.unwrap(), "");
}

async fn typed_parts_and_answers(world: &World) {
    let each = |_: Call<Join>, parts: RequestStream<(u32, String)>| {
        parts.map(|part| match part {
            Ok((0, _)) => Err("zero".to_owned()),
            Ok((number, text)) => Ok(format!("{number} {text}")),
            Err(error) => Err(error.to_string()),
        })
    };
    let _service = world.service.bind_upload_stream("/s", each).await.unwrap();
    let parts = stream::iter((0..3).map(|number| (number, "x".to_owned())));
    let answers = match world.caller.service("/s").upload_stream(Join(String::new()), parts).await {
        Ok(answers) => answers.try_collect::<Vec<_>>().await,
        Err(error) => Err(error),
    };
    match answers {
        Ok(answers) => {
            assert!(world.expect(&IS_SUPPORTED));
            let expected = [Err("zero".to_owned()), Ok("1 x".to_owned()), Ok("2 x".to_owned())];
            assert_eq!(answers, expected);
        }
        Err(error) => {
            assert!(!world.expect(&IS_SUPPORTED));
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        }
    }
}

// It ends the body with an error. The part comes from a caller of bytes.
async fn part_that_cannot_be_decoded(world: &World) {
    let _service = world.service.bind_upload("/s", join).await.unwrap();
    if !world.expect(&IS_SUPPORTED) {
        return;
    }
    let encoding = gsb_client::FlexBuffers;
    let message = gsb_client::Encoding::encode(&encoding, &Join(String::new())).unwrap();
    let parts = stream::iter([Bytes::from("no tuple")]);
    let answer = world.caller.endpoint("/s/join").upload(message, parts).await.unwrap();
    assert!(answer.windows(13).any(|text| text == b"cannot decode"), "{answer:?}");
}
