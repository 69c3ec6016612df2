use super::super::links::tests::{Authority, named};
use super::*;

fn streams() -> (Streams, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (Streams::new(listener, tokio::runtime::Handle::current()).unwrap(), address)
}

async fn next(streams: &mut Streams) -> Input {
    timeout(Duration::from_secs(5), streams.next()).await.expect("something happens")
}

#[tokio::test]
async fn bytes_cross_and_a_close_comes_after_them() {
    let (mut a, _) = streams();
    let (mut b, address) = streams();
    assert!(a.output(Output::OpenStream { stream: StreamId(1), to: address }).is_none());
    assert!(matches!(next(&mut a).await, Input::StreamConnected { stream: StreamId(1) }));
    let Input::StreamAccepted { stream, .. } = next(&mut b).await else { panic!("a stream is accepted") };
    assert_eq!(stream.0 % 2, 0);
    send_and_close(&mut a, &mut b, stream).await;
}

/// Sends a piece of several reads and an end from one to the other, and closes.
async fn send_and_close(a: &mut Streams, b: &mut Streams, to: StreamId) {
    let piece = Bytes::from(vec![7; 3 << 20]);
    a.output(Output::StreamBytes { stream: StreamId(1), bytes: piece.clone() });
    a.output(Output::StreamBytes { stream: StreamId(1), bytes: Bytes::from_static(b"end") });
    a.output(Output::CloseStream { stream: StreamId(1) });
    let mut came = Vec::new();
    loop {
        match next(b).await {
            Input::StreamBytes { bytes, .. } => came.extend_from_slice(&bytes),
            Input::StreamClosed { stream } => break assert_eq!(stream, to),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(came.len(), piece.len() + 3);
    assert!(came.ends_with(b"end"));
}

#[tokio::test]
async fn links_carry_the_same_in_tls_and_say_who_is_certified() {
    let authority = Authority::generate();
    let mut gateways = ["west", "east"].map(|datacenter| {
        let (mut streams, _) = streams();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        streams.listen_to_gateways(listener, Some(authority.gateway(datacenter))).unwrap();
        (streams, address)
    });
    let [(west, _), (east, to)] = &mut gateways;
    let dial = |stream, name| Output::OpenWanStream { stream: StreamId(stream), to: *to, datacenter: named(name) };
    west.output(dial(1, "east"));
    assert!(matches!(next(west).await, Input::StreamConnected { stream: StreamId(1) }));
    let Input::WanStreamAccepted { stream, datacenter, .. } = next(east).await else { panic!("a link is accepted") };
    assert_eq!(datacenter, Some(named("west")));
    send_and_close(west, east, stream).await;
    west.output(dial(3, "north"));
    assert!(matches!(next(west).await, Input::StreamClosed { stream: StreamId(3) }), "east is not north");
    // Agents of the own datacenter are asked for no certificate, and a gateway lets none in without.
    west.output(Output::OpenStream { stream: StreamId(5), to: *to });
    assert!(matches!(next(west).await, Input::StreamConnected { stream: StreamId(5) }));
    west.output(Output::StreamBytes { stream: StreamId(5), bytes: Bytes::from_static(b"no TLS") });
    let mut last = next(west).await;
    while !matches!(last, Input::StreamClosed { stream: StreamId(5) }) {
        last = next(west).await;
    }
    assert!(east.try_next().is_none(), "it did not come so far");
}

#[tokio::test]
async fn drained_is_said_once_all_is_written_and_both_may_write_at_once() {
    let (mut a, _) = streams();
    let (mut b, address) = streams();
    a.output(Output::OpenStream { stream: StreamId(1), to: address });
    assert!(matches!(next(&mut a).await, Input::StreamConnected { .. }));
    let Input::StreamAccepted { stream, .. } = next(&mut b).await else { panic!("a stream is accepted") };
    // More than the kernel's buffers hold, both ways.
    let (mut left, mut right) = (8_u32, 8_u32);
    let piece = Bytes::from(vec![1; 1 << 20]);
    for _ in 0..8 {
        a.output(Output::StreamBytes { stream: StreamId(1), bytes: piece.clone() });
        b.output(Output::StreamBytes { stream, bytes: piece.clone() });
    }
    let (mut a_came, mut b_came) = (0, 0);
    let (mut a_drained, mut b_drained) = (false, false);
    while !(a_drained && b_drained && a_came == 8 << 20 && b_came == 8 << 20) {
        tokio::select! {
            input = a.next() => match input {
                Input::StreamBytes { bytes, .. } => a_came += bytes.len(),
                Input::StreamDrained { .. } => { a_drained = true; left -= 8 }
                other => panic!("{other:?}"),
            },
            input = b.next() => match input {
                Input::StreamBytes { bytes, .. } => b_came += bytes.len(),
                Input::StreamDrained { .. } => { b_drained = true; right -= 8 }
                other => panic!("{other:?}"),
            },
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("stuck at {a_came} and {b_came}"),
        }
    }
    assert_eq!((left, right), (0, 0), "drained once each");
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_is_closed() {
    let (mut a, _) = streams();
    let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    a.output(Output::OpenStream { stream: StreamId(1), to: nobody });
    assert!(matches!(next(&mut a).await, Input::StreamClosed { stream: StreamId(1) }));
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_a_bounded_buffer() {
    let (mut a, _) = streams();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    a.output(Output::OpenStream { stream: StreamId(1), to: listener.local_addr().unwrap() });
    assert!(matches!(next(&mut a).await, Input::StreamConnected { .. }));
    let _deaf = listener.accept().await.unwrap();
    for _ in 0..=UNWRITTEN_BYTES_MAX >> 20 {
        a.output(Output::StreamBytes { stream: StreamId(1), bytes: Bytes::from(vec![0; 1 << 20]) });
    }
    assert_eq!(a.stalled, 1);
}
