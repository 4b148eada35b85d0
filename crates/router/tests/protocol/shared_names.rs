//! Names with several owners over sockets. Rules SV-10, SV-11, TO-13.

use std::collections::{BTreeMap, BTreeSet};

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, TestRouter, all_kinds_of_peers};

async fn register(peer: &mut Peer, mode: RegisterMode, capacity: u32) -> i32 {
    let mode = mode.into();
    peer.send(RegisterRequest { service_id: "/s".into(), mode, capacity }).await;
    peer.expect::<RegisterReply>().await.code
}

/// A peer with an instance id, which owns `/s` together with others.
async fn shared_owner(address: &Address, instance: u8) -> Peer {
    let mut owner = Peer::silent(address, Framing::Packet).await;
    owner.send(Hello { instance_id: vec![instance].into(), ..Default::default() }).await;
    let Hello { .. } = owner.expect().await;
    assert_eq!(register(&mut owner, RegisterMode::Shared, 0).await, 0);
    owner
}

#[tokio::test]
async fn owners_of_all_kinds_share_a_name() {
    let router = TestRouter::start().await;
    let mut owners = all_kinds_of_peers(&router).await;
    for owner in &mut owners {
        assert_eq!(register(owner, RegisterMode::Shared, 2).await, 0);
        assert_eq!(register(owner, RegisterMode::Shared, 2).await, 409);
        assert_eq!(register(owner, RegisterMode::Exclusive, 0).await, 409);
    }
    for mut caller in all_kinds_of_peers(&router).await {
        // Two rounds fill all owners.
        for round in 0..2 {
            for (number, owner) in owners.iter_mut().enumerate() {
                caller.call("/s/x", &format!("{round} {number}"), "").await;
                assert_eq!(owner.expect::<CallRequest>().await.address, "/s/x");
            }
        }
        caller.call("/s/x", "busy", "").await;
        let refused: CallReply = caller.expect().await;
        assert_eq!((refused.request_id.as_str(), refused.code), ("busy", 400));
        assert_eq!(refused.reason(), CallReplyReason::ReasonBusy);
        for (number, owner) in owners.iter_mut().enumerate() {
            for round in 0..2 {
                let id = format!("{round} {number}");
                owner.reply(&id, "").await;
                assert_eq!(caller.expect::<CallReply>().await.request_id, id);
            }
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn a_standby_owner_takes_over() {
    let router = TestRouter::start().await;
    let mut caller = Peer::connect(&router.tcp, Framing::Packet).await;
    let mut owners = all_kinds_of_peers(&router).await;
    for owner in &mut owners {
        assert_eq!(register(owner, RegisterMode::Standby, 0).await, 0);
    }
    for (number, mut active) in owners.into_iter().enumerate() {
        caller.call("/s", &format!("answered {number}"), "").await;
        let CallRequest { request_id, .. } = active.expect().await;
        active.reply(&request_id, "").await;
        assert_eq!(caller.expect::<CallReply>().await.code, 0);
        caller.call("/s", &format!("lost {number}"), "").await;
        let CallRequest { .. } = active.expect().await;
        drop(active);
        // From now on the next owner gets them.
        let lost: CallReply = caller.expect().await;
        assert_eq!(lost.reason(), CallReplyReason::ReasonServiceGone);
    }
    caller.call("/s", "last", "").await;
    assert_eq!(caller.expect::<CallReply>().await.reason(), CallReplyReason::ReasonNoSuchService);
    router.stop().await;
}

// While owners come and go, no call finds the name without an owner, and each ends once.
#[tokio::test]
async fn no_call_is_lost_between_two_standby_owners() {
    let router = TestRouter::start().await;
    let mut caller = Peer::connect(&router.unix, Framing::Packet).await;
    let mut waiting = BTreeSet::new();
    let mut first = Peer::connect(&router.unix, Framing::Packet).await;
    assert_eq!(register(&mut first, RegisterMode::Standby, 0).await, 0);
    let mut active = Some(first);
    for round in 0..20 {
        let mut next = Peer::connect(&router.unix, Framing::Classic).await;
        assert_eq!(register(&mut next, RegisterMode::Standby, 0).await, 0);
        for number in 0..50 {
            let id = format!("{round}/{number}");
            caller.call("/s", &id, "").await;
            waiting.insert(id);
            if number == 25 {
                // The router notices at a time of its own.
                drop(active.take());
            }
        }
        while !waiting.is_empty() {
            tokio::select! {
                frame = next.next() => {
                    let call: CallRequest = frame.unwrap().decode().unwrap();
                    next.reply(&call.request_id, "").await;
                }
                reply = caller.expect::<CallReply>() => {
                    assert!(waiting.remove(&reply.request_id), "{reply:?}");
                    assert!(
                        reply.code == 0 || reply.reason() == CallReplyReason::ReasonServiceGone,
                        "{reply:?}"
                    );
                }
            }
        }
        active = Some(next);
    }
    drop(active);
    router.stop().await;
}

#[tokio::test]
async fn affinity_outlives_a_reconnect() {
    let router = TestRouter::start().await;
    let mut caller = Peer::connect(&router.tcp, Framing::Classic).await;
    let mut owners = Vec::new();
    for instance in 1..=3 {
        owners.push(shared_owner(&router.unix, instance).await);
    }
    let mut before = BTreeMap::new();
    for _ in 0..3 {
        for text in 0..30 {
            let affinity = format!("user {text}");
            let push = CallRequest {
                address: "/s".into(),
                affinity: affinity.clone(),
                no_reply: true,
                ..Default::default()
            };
            caller.send(push).await;
        }
        caller.expect_nothing().await;
        let mut now = BTreeMap::new();
        for (number, owner) in owners.iter_mut().enumerate() {
            owner.send(Ping {}).await;
            while let Some(frame) = owner.next().await {
                if frame.kind == gsb_proto::MessageKind::Pong {
                    break;
                }
                let call: CallRequest = frame.decode().unwrap();
                now.insert(call.affinity, number);
            }
        }
        assert_eq!(now.len(), 30);
        if before.is_empty() {
            assert_eq!(BTreeSet::from_iter(now.values()).len(), 3, "{now:?}");
            before = now;
        } else {
            assert_eq!(now, before);
        }
        // Each takes the place of its own connection.
        for (number, owner) in owners.iter_mut().enumerate() {
            *owner = shared_owner(&router.unix, number as u8 + 1).await;
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn a_broadcast_says_how_many_receive_it() {
    let router = TestRouter::start().await;
    let mut subscribers = all_kinds_of_peers(&router).await;
    for (number, mut sender) in all_kinds_of_peers(&router).await.into_iter().enumerate() {
        sender.broadcast("news", "").await;
        assert_eq!(sender.expect::<BroadcastReply>().await.receivers, Some(number as u32));
        assert_eq!(subscribers[number].subscribe("news").await, 0);
        subscribers[number].broadcast("news", "").await;
        let reply: BroadcastReply = subscribers[number].expect().await;
        assert_eq!(reply.receivers, Some(number as u32 + 1));
        let BroadcastRequest { .. } = subscribers[number].expect().await;
        for other in &mut subscribers[..number] {
            let BroadcastRequest { .. } = other.expect().await;
            let BroadcastRequest { .. } = other.expect().await;
        }
        for other in &mut subscribers {
            other.expect_nothing().await;
        }
    }
    router.stop().await;
}
