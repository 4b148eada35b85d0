//! The typed interfaces of our client and of `ya-service-bus` call each other, through our router and through
//! `ya-sb-router`.

use futures::{StreamExt as _, stream};
use gsb_client::{Answer, Bus};
use gsb_interop::messages::{Count, Echo, Echoed, Note, Recall, Refusal};
use gsb_interop::peer::Peer;
use gsb_interop::router::{OurRouter, YaRouter};
use gsb_interop::within;
use tokio::sync::mpsc;

const YA_PEER: &str = env!("CARGO_BIN_EXE_ya-peer");
const YA_ROUTER: &str = env!("CARGO_BIN_EXE_ya-router");

#[tokio::test]
async fn through_our_router() {
    let router = OurRouter::start().await;
    both_ways(&router.url, "gsb-client (typed) on gsb-router").await;
}

#[tokio::test]
async fn through_the_router_of_ya() {
    let router = YaRouter::start(YA_ROUTER).await;
    both_ways(&router.url, "gsb-client (typed) on ya-sb-router").await;
}

async fn both_ways(url: &str, with: &str) {
    let mut ya = Peer::start(YA_PEER, &["typed"], url).await;
    let bus = Bus::builder().name("our-client").connect(url).await.unwrap();
    we_call(&mut ya, &bus).await;
    ya_calls(&mut ya, &bus).await;
    ya.took_part("typed service, typed caller", with);
}

async fn we_call(ya: &mut Peer, bus: &Bus) {
    ya.run("bind /golem/typed", &["bound /golem/typed"]).await;
    let service = bus.service("/golem/typed");
    let text = "żółw".to_owned();
    let echoed = Echoed { text: text.clone(), caller: "our-client".to_owned() };
    let answer = within("an answer", service.call(Echo { text })).await;
    assert_eq!(answer.unwrap(), Ok(echoed));
    let refused = within("an answer", service.call(Echo { text: Echo::REFUSED.to_owned() })).await;
    assert_eq!(refused.unwrap().unwrap_err().reason, "as asked");

    for numbers in [0, 1000] {
        let items = service.stream(Count { numbers }).await.unwrap();
        let items: Vec<_> = within("the end of a stream", items.collect()).await;
        let items: Vec<u32> = items.into_iter().map(|item| item.unwrap().unwrap()).collect();
        assert_eq!(items, Vec::from_iter(0..numbers));
    }
    service.push(Note { text: "one".to_owned() }).await.unwrap();
    ya.expect(&["noted one"]).await;
    let notes = within("an answer", service.call(Recall {})).await;
    assert_eq!(notes.unwrap(), Ok(vec!["one".to_owned()]));
}

async fn ya_calls(ya: &mut Peer, bus: &Bus) {
    let echo = |caller: String, Echo { text }| async move {
        match text == Echo::REFUSED {
            true => Err(Refusal { reason: "as asked".to_owned() }),
            false => Ok(Echoed { text, caller }),
        }
    };
    let _echo = bus.bind_with_caller("/golem/ours", echo).await.unwrap();
    let count = |Count { numbers }| stream::iter((0..numbers).map(Answer::<Count>::Ok));
    let _count = bus.bind_stream("/golem/ours", count).await.unwrap();
    let (noted, mut notes) = mpsc::unbounded_channel();
    let note = move |Note { text }| {
        noted.send(text).unwrap();
        async { Ok(()) }
    };
    let _note = bus.bind("/golem/ours", note).await.unwrap();

    ya.run("echo /golem/ours hello", &["echoed hello for ya-caller"]).await;
    ya.run(&format!("echo /golem/ours {}", Echo::REFUSED), &["refused as asked"]).await;
    ya.run("count /golem/ours 3", &["item 0", "item 1", "item 2", "end"]).await;
    ya.run("note /golem/ours two", &["pushed"]).await;
    assert_eq!(within("a note", notes.recv()).await.as_deref(), Some("two"));
}
