use std::pin::pin;

use gsb_core::{BrokerConfig, Identity};
use gsb_net::Stream;
use gsb_proto::messages::*;
use gsb_proto::{Frame, FrameDecoder, Framing};
use tokio::net::UnixStream;

use super::*;
use crate::clock::Clock;

const STALL: Duration = Duration::from_secs(2);

fn connect(shared: &Shared) -> (ConnId, Arc<Link<Ticket>>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::with_tickets(Stream::Unix(near)));
    (shared.connect(Identity::Unknown, link.clone()).unwrap(), link, far)
}

fn receive(shared: &Shared, from: ConnId, frame: Frame) {
    crate::shared::tests::receive(shared, from, Framing::Packet, frame);
}

fn call(request_id: String) -> Frame {
    CallRequest { address: "/service".into(), request_id, ..CallRequest::default() }.to_frame()
}

/// Lets time pass in which the router runs.
async fn pass(clock: &Clock, time: Duration) {
    for _ in 0..100 {
        tokio::time::advance(time / 100).await;
        clock.now();
    }
}

// Rule LI-4: all calls that are due end at once, from behind what stays too, and others run meanwhile.
#[tokio::test(start_paused = true)]
async fn all_calls_that_are_due_are_taken_back_in_steps() {
    let shared = Arc::new(Shared::new(BrokerConfig::default(), Clock::new(STALL)));
    let (service, link, _far) = connect(&shared);
    let (peer, _link, _far) = connect(&shared);
    let service_id = "/service".to_owned();
    receive(&shared, service, RegisterRequest { service_id }.to_frame());
    receive(&shared, service, SubscribeRequest { topic: "topic".into() }.to_frame());
    let event = |length| {
        let data = vec![7; length].into();
        BroadcastRequest { topic: "topic".into(), data, ..Default::default() }.to_frame()
    };
    receive(&shared, peer, event(1 << 20));
    assert!(link.stuck(|_, _| None::<()>).is_some());
    // Some of them leave as one, of 16 KiB.
    for _ in 0..5000 {
        receive(&shared, peer, event(200));
    }
    (0..100).for_each(|number| receive(&shared, peer, call(number.to_string())));
    pass(&shared.clock, STALL / 2).await;
    (100..105).for_each(|number| receive(&shared, peer, call(number.to_string())));
    pass(&shared.clock, STALL / 2).await;

    let timeouts = Timeouts { stall: STALL, stride: 1, write: 10 * STALL, frame: STALL };
    let mut patience = Patience::new(timeouts, shared.clone());
    let mut pauses = 0;
    let mut looking = pin!(patience.look(service, &link));
    let looked = std::future::poll_fn(|context| {
        let polled = looking.as_mut().poll(context);
        pauses += usize::from(polled.is_pending());
        polled
    });
    assert!(looked.await.is_ok());
    assert_eq!(shared.usage().open_calls, 5);
    assert!(pauses >= 5000 / 1024, "{pauses} pauses");
}

// Rules LI-4, LI-7: that the socket of a peer is full is noticed though it sends without a pause.
#[tokio::test(start_paused = true)]
async fn who_sends_without_a_pause_is_looked_after() {
    let shared = Arc::new(Shared::new(BrokerConfig::default(), Clock::new(STALL)));
    let (peer, link, _far) = connect(&shared);
    let timeouts = Timeouts { stall: STALL, stride: 1, write: STALL, frame: STALL };
    let mut patience = Patience::new(timeouts, shared.clone());
    let inbox = Inbox::new(FrameDecoder::detecting(1000));
    patience.has_read(&inbox, &link);
    assert!(patience.armed.is_none());
    receive(&shared, peer, SubscribeRequest { topic: "topic".into() }.to_frame());
    let data = vec![7; 1 << 20].into();
    let event = BroadcastRequest { topic: "topic".into(), data, ..Default::default() };
    receive(&shared, peer, event.to_frame());
    patience.has_read(&inbox, &link);
    pass(&shared.clock, STALL / LOOKS).await;
    patience.is_over().await;
    assert!(patience.look(peer, &link).await.is_ok());
    pass(&shared.clock, STALL).await;
    patience.is_over().await;
    let end = patience.look(peer, &link).await.unwrap_err();
    assert_eq!(end, CloseReason::NotReading(STALL));
}
