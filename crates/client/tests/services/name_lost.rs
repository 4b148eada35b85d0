//! Names that the router takes away. Rule CO-21.

use std::time::Duration;

use futures::StreamExt as _;
use gsb_client::{Announcement, Bus, Call, Error, NameKind, Reconnect, Status, Subscription};
use gsb_proto::messages::*;
use gsb_testkit::{FakeRouter, Peer, within};

async fn connect(router: &FakeRouter) -> (Bus, Peer) {
    let reconnect = Reconnect::default().first_delay(Duration::from_millis(1));
    let builder = Bus::builder().reconnect(reconnect);
    let hello = Hello { level: 1, no_echo: true, ..Hello::default() };
    let (bus, peer) = tokio::join!(builder.connect(&router.address), router.accept_with(hello));
    (bus.unwrap(), peer)
}

async fn event(peer: &mut Peer, data: &'static str) {
    let topic = "t".into();
    peer.send(BroadcastRequest { topic, data: data.into(), ..Default::default() }).await;
}

async fn next(subscription: &mut Subscription) -> Result<String, Error> {
    let event = within("an event", subscription.next()).await.unwrap()?;
    Ok(String::from_utf8_lossy(&event.data).into_owned())
}

fn refused(status: &Status) -> Vec<(NameKind, String)> {
    status.refused.iter().map(|refused| (refused.kind, refused.name.clone())).collect()
}

#[tokio::test]
async fn a_service() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = connect(&router).await;
    let registering = bus.register("/s", |_: Call| async { Ok("here") }).shared().capacity(3);
    let (service, request) = tokio::join!(registering, async {
        let request: RegisterRequest = peer.expect().await;
        peer.send(RegisterReply::default()).await;
        request
    });
    let service = service.unwrap();
    for message in ["not permitted any more", ""] {
        let mut watch = bus.watch();
        assert!(bus.status().is_serving());
        // The names of others have no effect.
        for name in ["/other", "/s"] {
            let (service_id, message) = (name.into(), message.into());
            peer.send(NameLost { service_id, message, ..NameLost::default() }).await;
        }
        let lost = within("the loss", watch.wait_for(|status| !status.is_serving())).await.unwrap();
        assert_eq!(refused(&lost), [(NameKind::Service, "/s".to_owned())]);
        let Announcement::Refused(error) = service.announcement() else {
            panic!("{:?}", service.announcement());
        };
        assert!(matches!(&error, Error::NameRefused { name, .. } if name == "/s"));
        let expected = if message.is_empty() { "taken it away" } else { message };
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(bus.call("/s", "").await.unwrap(), "here");
        // It is asked for again, on the same terms, also when it is refused.
        for code in [RegisterReplyCode::RegisterBadRequest, RegisterReplyCode::RegisteredOk] {
            assert_eq!(peer.expect::<RegisterRequest>().await, request);
            peer.send(RegisterReply { code: code.into(), message: message.into() }).await;
        }
        within("the name", watch.wait_for(Status::is_serving)).await.unwrap();
        assert!(matches!(service.announcement(), Announcement::Confirmed));
    }
    // A name that was given back meanwhile.
    drop(service);
    let UnregisterRequest { .. } = peer.expect().await;
    peer.send(NameLost { service_id: "/s".into(), ..NameLost::default() }).await;
    peer.send(UnregisterReply::default()).await;
    peer.expect_nothing_behind().await;
    assert!(bus.status().refused.is_empty() && bus.status().is_serving());
}

#[tokio::test]
async fn a_subscription() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = connect(&router).await;
    let subscribe = async |topic: &str, peer: &mut Peer| {
        let answer = async {
            let SubscribeRequest { .. } = peer.expect().await;
            peer.send(SubscribeReply::default()).await;
        };
        tokio::join!(bus.subscribe(topic), answer).0.unwrap()
    };
    let mut lost = subscribe("t", &mut peer).await;
    let mut other = subscribe("*", &mut peer).await;
    let mut same = bus.subscribe("t").await.unwrap();
    event(&mut peer, "1").await;
    let message = "not permitted any more".into();
    peer.send(NameLost { topic: "t".into(), message, ..NameLost::default() }).await;
    let SubscribeRequest { topic } = peer.expect().await;
    assert_eq!(topic, "t");
    let refusal = SubscribeReply { code: 400, message: "not yet".into() };
    peer.send(refusal).await;
    let SubscribeRequest { .. } = peer.expect().await;
    peer.send(SubscribeReply::default()).await;
    event(&mut peer, "2").await;
    for subscription in [&mut lost, &mut same] {
        assert_eq!(next(subscription).await.unwrap(), "1");
        let gap = next(subscription).await.unwrap_err();
        assert!(matches!(&gap, Error::NameRefused { name, .. } if name == "t"), "{gap}");
        assert!(gap.to_string().contains("not permitted any more"), "{gap}");
        assert_eq!(next(subscription).await.unwrap(), "2");
    }
    assert_eq!(next(&mut other).await.unwrap(), "1");
    assert_eq!(next(&mut other).await.unwrap(), "2");
    assert!(bus.status().refused.is_empty());
}
