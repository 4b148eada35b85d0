use gsb_proto::{Frame, FrameDecoder, Framing, MessageKind};

use super::*;
use crate::{Inbox, Link, Received, StdStream, Stream};

const DELAY: Duration = Duration::from_millis(20);

/// Conditions in which everything takes exactly [`DELAY`].
fn steady() -> Conditions {
    Conditions { delay: DELAY..=DELAY, ..Conditions::default() }
}

async fn connected(network: &Network) -> (MemoryStream, MemoryStream) {
    let listener = network.listen().unwrap();
    let near = network.connect().await.unwrap();
    (near, listener.accept().await)
}

/// Writes once.
fn write(stream: &MemoryStream, mut data: &[u8]) -> io::Result<usize> {
    let before = data.len();
    while !data.is_empty() {
        // In two slices, since a link writes several.
        let (first, second) = data.split_at(data.len() / 2);
        match stream.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
            Ok(written) => data = &data[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(before - data.len())
}

async fn write_all(stream: &MemoryStream, mut data: &[u8]) {
    while !data.is_empty() {
        assert!(stream.ready(Interest::WRITABLE).await.unwrap().is_writable());
        data = &data[write(stream, data).unwrap()..];
    }
}

/// Waits until the stream is readable and reads; 0 at the end.
async fn read(stream: &MemoryStream, buffer: &mut BytesMut) -> io::Result<usize> {
    assert!(stream.ready(Interest::READABLE).await.unwrap().is_readable());
    buffer.reserve(4096);
    stream.try_read(buffer, buffer.capacity() - buffer.len())
}

async fn read_exact(stream: &MemoryStream, length: usize) -> BytesMut {
    let mut buffer = BytesMut::new();
    while buffer.len() < length {
        assert_ne!(read(stream, &mut buffer).await.unwrap(), 0, "the end");
    }
    assert_eq!(buffer.len(), length);
    buffer
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn numbers(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

// Both ends read and write at the same time through a small capacity. A lost wake-up would hang.
#[tokio::test(start_paused = true)]
async fn everything_arrives_in_order_both_ways() {
    for seed in 0..20 {
        let conditions = Conditions { capacity: 1 << (seed % 15), ..Conditions::default() };
        let (near, far) = connected(&Network::new(seed, conditions)).await;
        let length = 100 << (seed % 10);
        let (there, back) = (numbers(seed, length), numbers(seed + 1000, length));
        let exchange = async {
            tokio::join!(
                write_all(&near, &there),
                write_all(&far, &back),
                read_exact(&far, length),
                read_exact(&near, length),
            )
        };
        let hours = Duration::from_secs(7200);
        let ((), (), at_far, at_near) = tokio::time::timeout(hours, exchange).await.unwrap();
        assert!(at_far == there && at_near == back, "seed {seed}");
    }
}

// The same seed gives the same sizes of reads and writes.
#[tokio::test(start_paused = true)]
async fn the_seed_decides_everything() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let start = Instant::now();
        let (near, far) = connected(&Network::new(seed, Conditions::default())).await;
        let mut run = Vec::new();
        for _ in 0..20 {
            write(&near, &[7; 100]).unwrap();
            run.push((0, start.elapsed()));
        }
        let mut buffer = BytesMut::new();
        while buffer.len() < 2000 {
            run.push((read(&far, &mut buffer).await.unwrap(), start.elapsed()));
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    assert!(runs[0].iter().any(|(read, _)| (1..16).contains(read)));
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_limited() {
    let network = Network::new(1, Conditions { capacity: 1000, ..steady() });
    let (near, far) = connected(&network).await;
    assert_eq!(write(&near, &[7; 3000]).unwrap(), 1000);
    assert_eq!(kind(near.try_write_vectored(&[IoSlice::new(&[7])])), Some(ErrorKind::WouldBlock));
    // Bytes take capacity until they are read.
    let full = near.ready(Interest::WRITABLE);
    assert!(tokio::time::timeout(10 * DELAY, full).await.is_err());
    let (ready, got) = tokio::join!(near.ready(Interest::WRITABLE), read_exact(&far, 1000));
    assert!(ready.unwrap().is_writable());
    assert_eq!(got.len(), 1000);
    assert_eq!(write(&near, &[7; 3000]).unwrap(), 1000);
    // The other direction has its own capacity.
    assert_eq!(write(&far, &[7; 3000]).unwrap(), 1000);
}

#[tokio::test(start_paused = true)]
async fn everything_takes_its_time() {
    let network = Network::new(1, steady());
    let start = Instant::now();
    let (near, far) = connected(&network).await;
    assert_eq!(start.elapsed(), DELAY);
    assert_eq!(write(&near, b"hello").unwrap(), 5);
    assert_eq!(kind(far.try_read(&mut BytesMut::with_capacity(9), 9)), Some(ErrorKind::WouldBlock));
    assert_eq!(read_exact(&far, 5).await, "hello");
    assert_eq!(start.elapsed(), 2 * DELAY);
    near.shut_down();
    assert_eq!(read(&far, &mut BytesMut::new()).await.unwrap(), 0);
    assert_eq!(start.elapsed(), 3 * DELAY);
}

// Dropping an end shuts it down, too.
#[tokio::test(start_paused = true)]
async fn the_end_comes_behind_what_was_sent() {
    for is_dropped in [false, true] {
        let network = Network::new(1, steady());
        let (near, far) = connected(&network).await;
        assert_eq!(network.connections(), 1);
        write(&near, b"goodbye").unwrap();
        write(&far, b"unread").unwrap();
        let near = if is_dropped {
            drop(near);
            None
        } else {
            near.shut_down();
            near.shut_down();
            Some(near)
        };
        assert_eq!(network.connections(), 0);
        // The end has not arrived here yet.
        assert_eq!(write(&far, b"in vain").unwrap(), 7);
        assert_eq!(read_exact(&far, 7).await, "goodbye");
        for _ in 0..2 {
            assert_eq!(read(&far, &mut BytesMut::new()).await.unwrap(), 0);
        }
        assert_eq!(kind(write(&far, b"too late")), Some(ErrorKind::BrokenPipe));
        if let Some(near) = near {
            assert_eq!(read(&near, &mut BytesMut::new()).await.unwrap(), 0);
            assert_eq!(kind(write(&near, b"late")), Some(ErrorKind::BrokenPipe));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_loses_what_is_on_its_way() {
    let network = Network::new(1, steady());
    let (near, far) = connected(&network).await;
    write(&near, b"lost").unwrap();
    let start = Instant::now();
    let cut = async {
        tokio::task::yield_now().await;
        network.cut_all();
    };
    let mut buffer = BytesMut::new();
    let (got, ()) = tokio::join!(read(&far, &mut buffer), cut);
    assert_eq!(kind(got), Some(ErrorKind::ConnectionReset));
    assert_eq!(start.elapsed(), Duration::ZERO, "a waiting task is woken");
    assert_eq!(kind(read(&near, &mut buffer).await), Some(ErrorKind::ConnectionReset));
    for end in [near, far] {
        assert!(end.ready(Interest::WRITABLE).await.unwrap().is_writable());
        assert_eq!(kind(write(&end, b"late")), Some(ErrorKind::ConnectionReset));
    }
    assert_eq!(network.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_are_cut_one_at_a_time() {
    let mut orders = Vec::new();
    for seed in [1, 1, 2] {
        let network = Network::new(seed, Conditions::default());
        let listener = network.listen().unwrap();
        let mut ends = Vec::new();
        for _ in 0..10 {
            ends.push((network.connect().await.unwrap(), listener.accept().await));
        }
        let mut order = Vec::new();
        while network.cut_one() {
            let is_cut = |end: &MemoryStream| end.pipe.state.lock().is_cut;
            let cut: Vec<_> = (0..10).filter(|n| is_cut(&ends[*n].0)).collect();
            order.push(*cut.iter().find(|n| !order.contains(*n)).unwrap());
            assert_eq!(network.connections(), 10 - order.len());
        }
        assert_eq!(order.len(), 10);
        orders.push(order);
    }
    assert!(orders[0] == orders[1] && orders[0] != orders[2]);
}

#[tokio::test(start_paused = true)]
async fn connecting_needs_a_listener() {
    let network = Network::new(1, steady());
    let refused = Some(ErrorKind::ConnectionRefused);
    assert_eq!(kind(network.connect().await), refused);
    let listener = network.listen().unwrap();
    assert_eq!(kind(network.listen()), Some(ErrorKind::AddrInUse));
    let unaccepted = network.connect().await.unwrap();
    // Drop the listener before the next connection arrives.
    let gone = async {
        tokio::task::yield_now().await;
        drop(listener);
    };
    let (late, ()) = tokio::join!(network.connect(), gone);
    assert_eq!(kind(late), refused);
    assert_eq!(read(&unaccepted, &mut BytesMut::new()).await.unwrap(), 0);
    assert_eq!(network.connections(), 0);
    connected(&network).await;
}

fn frame(length: usize) -> Frame {
    Frame::new(MessageKind::CallRequest, vec![7; length])
}

async fn receive(link: &Link, frames: usize, inbox: &mut Inbox) -> Vec<usize> {
    let mut lengths = Vec::new();
    while lengths.len() < frames {
        assert_eq!(link.receive(inbox).await.unwrap(), Received::Bytes);
        while let Some(frame) = inbox.next_frame().unwrap() {
            lengths.push(frame.body.len());
        }
    }
    lengths
}

// Both ends send and receive, and write the rest when the pipe is full.
#[tokio::test(start_paused = true)]
async fn links_work_over_it() {
    for seed in 0..10 {
        let conditions = Conditions { capacity: 3000, ..Conditions::default() };
        let (near, far) = connected(&Network::new(seed, conditions)).await;
        let near = Stream::from_std(StdStream::Memory(near)).unwrap();
        let far = Stream::from_std(StdStream::Memory(far)).unwrap();
        assert_eq!(near.peer_uid(), far.peer_uid());
        assert!(near.peer_uid().is_some());
        let (near, far) = (Link::new(near, 10_000), Link::new(far, 10_000));
        let lengths: Vec<usize> = (0..100).map(|n| [0, 7, 900, 20_000][n % 4]).collect();
        let inbox = || Inbox::new(FrameDecoder::new(Framing::Packet, 1 << 20));
        let (mut near_inbox, mut far_inbox) = (inbox(), inbox());
        let done = tokio::sync::Barrier::new(4);
        let send = async |link: &Link| {
            for &length in &lengths {
                assert!(link.send(Framing::Packet, &frame(length)).await);
            }
            link.drained().await;
            done.wait().await;
        };
        // An end that has received everything goes on until everything is sent.
        let drive = async |link: &Link, inbox: &mut Inbox| {
            let received = receive(link, lengths.len(), inbox).await;
            assert_eq!(received, lengths);
            tokio::select! {
                _ = link.receive(inbox) => panic!("nothing more was sent"),
                _ = done.wait() => {}
            }
        };
        let exchange = async {
            tokio::join!(
                send(&near),
                send(&far),
                drive(&near, &mut near_inbox),
                drive(&far, &mut far_inbox),
            )
        };
        tokio::time::timeout(Duration::from_secs(3600), exchange).await.unwrap();
        // The last bytes can be read after the other end has shut down.
        assert!(far.send(Framing::Packet, &frame(5)).await);
        far.drained().await;
        far.close();
        assert!(near.send(Framing::Packet, &frame(5)).await);
        assert_eq!(receive(&near, 1, &mut near_inbox).await, [5]);
        assert_eq!(near.receive(&mut near_inbox).await.unwrap(), Received::End);
        assert_eq!(far.receive(&mut far_inbox).await.unwrap(), Received::Closed);
    }
}
