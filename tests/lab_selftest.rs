//! The lab itself: what its hosts, paths and processes do, measured, so that a test of agents may trust them.
#![cfg(all(feature = "agent", target_os = "linux"))]
#![allow(clippy::disallowed_methods, reason = "the lab lives in real time")]

mod lab;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::network::{Host, Lab};
use lab::wait_until;

const ECHO_PORT: u16 = 7;

/// A UDP echo server inside `host`; it ends with the test process.
fn echo(host: &Host) {
    let address = host.at(ECHO_PORT);
    let socket = host.run(move || UdpSocket::bind(address)).expect("the port is free");
    std::thread::spawn(move || {
        let mut packet = [0; 2_000];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&packet[..length], from);
        }
    });
}

/// A UDP socket inside `from` that talks to the echo server of `to`.
fn caller(from: &Host, to: &Host) -> UdpSocket {
    let (local, remote) = (from.at(0), to.at(ECHO_PORT));
    let socket = from.run(move || UdpSocket::bind(local)).expect("a port is free");
    socket.connect(remote).expect("a route exists");
    socket
}

/// One round trip; `None` when no answer comes within `patience`.
fn ping(socket: &UdpSocket, number: u32, patience: Duration) -> Option<Duration> {
    socket.set_read_timeout(Some(patience)).expect("patience is not zero");
    let start = Instant::now();
    socket.send(&number.to_be_bytes()).ok()?;
    let mut answer = [0; 4];
    while start.elapsed() < patience {
        match socket.recv(&mut answer) {
            Ok(4) if answer == number.to_be_bytes() => return Some(start.elapsed()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
    None
}

fn answers(socket: &UdpSocket, number: u32) -> bool {
    ping(socket, number, Duration::from_millis(100)).is_some()
}

#[test]
fn a_perfect_cable_is_fast() {
    let Some(mut lab) = Lab::new(1) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    echo(&b);
    let socket = caller(&a, &b);
    let start = Instant::now();
    let mut trips = 0;
    while start.elapsed() < Duration::from_secs(1) {
        assert!(ping(&socket, trips, Duration::from_secs(1)).is_some(), "round trip {trips} was not answered");
        trips += 1;
    }
    println!("round trips a second: {trips}");
    assert!(trips > 500, "{trips} round trips a second are too few to test anything");
}

#[test]
fn delay_is_honoured_both_ways() {
    let Some(mut lab) = Lab::new(2) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    echo(&b);
    let socket = caller(&a, &b);
    lab.link(&a, &b).delay(Duration::from_millis(20));
    let mut trips: Vec<Duration> = (0..20).map(|n| ping(&socket, n, Duration::from_secs(2)).expect("nothing is lost")).collect();
    trips.sort();
    println!("round trips with 2 × 20 ms of delay: {trips:?}");
    assert!(trips[0] >= Duration::from_millis(40), "too early: {trips:?}");
    assert!(trips[10] < Duration::from_millis(60), "too late: {trips:?}");

    lab.link(&a, &b).heal();
    assert!(ping(&socket, 99, Duration::from_secs(1)).expect("nothing is lost") < Duration::from_millis(40));
}

#[test]
fn jitter_reorders_and_loses_nothing() {
    let Some(mut lab) = Lab::new(3) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    echo(&b);
    let socket = caller(&a, &b);
    lab.link(&a, &b).jitter(Duration::from_millis(30));
    for number in 0_u32..200 {
        socket.send(&number.to_be_bytes()).expect("the link is up");
    }
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("not zero");
    let mut arrived = Vec::new();
    let mut answer = [0; 4];
    while arrived.len() < 200 {
        socket.recv(&mut answer).unwrap_or_else(|e| panic!("only {} of 200 came back: {e}", arrived.len()));
        arrived.push(u32::from_be_bytes(answer));
    }
    assert!(!arrived.is_sorted(), "jitter of 30 ms left 200 packets in order");
    arrived.sort_unstable();
    assert!(arrived.iter().copied().eq(0..200), "each packet comes back once: {arrived:?}");
}

#[test]
fn loss_is_honoured() {
    let Some(mut lab) = Lab::new(4) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    echo(&b);
    let socket = caller(&a, &b);
    lab.link(&a, &b).loss(0.2);
    socket.set_read_timeout(Some(Duration::from_millis(5))).expect("not zero");
    let mut answer = [0; 4];
    let mut returned = 0;
    for number in 0_u32..2_000 {
        socket.send(&number.to_be_bytes()).expect("the link is up");
        // In small groups: what is missing is lost on the way, and did not overrun a socket's buffer.
        if number % 50 == 49 {
            returned += std::iter::from_fn(|| socket.recv(&mut answer).ok()).count();
        }
    }
    println!("of 2,000 packets through 20 % loss each way, {returned} came back (expected 1,280)");
    assert!((1_180..1_380).contains(&returned), "{returned} of 2,000 came back; 0.8 × 0.8 is 1,280");
    assert!(lab.counts().lost > 600);
}

#[test]
fn a_one_way_cut_stops_one_way() {
    let Some(mut lab) = Lab::new(5) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    let (from, to) = (a.at(0), b.at(9));
    let sender = a.run(move || UdpSocket::bind(from)).expect("a port is free");
    let receiver = b.run(move || UdpSocket::bind(to)).expect("the port is free");
    receiver.set_read_timeout(Some(Duration::from_millis(200))).expect("not zero");
    sender.set_read_timeout(Some(Duration::from_millis(200))).expect("not zero");
    let back = sender.local_addr().expect("it is bound");
    let mut packet = [0; 8];

    lab.cut_one_way(&a, &b);
    sender.send_to(b"there", to).expect("the link is up");
    assert!(receiver.recv(&mut packet).is_err(), "a packet passed the cut");
    receiver.send_to(b"back", back).expect("the link is up");
    assert_eq!(sender.recv(&mut packet).ok(), Some(4), "the other way is not cut");
    assert_eq!(lab.counts().cut, 1);

    lab.heal();
    sender.send_to(b"there", to).expect("the link is up");
    assert_eq!(receiver.recv(&mut packet).ok(), Some(5), "healed");
}

#[test]
fn a_cut_takes_what_is_on_the_way() {
    let Some(mut lab) = Lab::new(6) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    echo(&b);
    let socket = caller(&a, &b);
    lab.link(&a, &b).delay(Duration::from_millis(50));
    socket.send(&7_u32.to_be_bytes()).expect("the link is up");
    lab.cut(&a, &b);
    wait_until(Duration::from_secs(1), "the packet meets the cut", || lab.counts().cut == 1);
    assert_eq!(lab.counts().delivered, 0);
}

#[test]
fn a_split_leaves_each_side_whole() {
    let Some(mut lab) = Lab::new(7) else { return };
    let hosts: Vec<Host> = ["a", "b", "c", "d"].iter().map(|name| lab.host(name)).collect();
    hosts.iter().for_each(echo);
    let reaches = |from: usize, to: usize| answers(&caller(&hosts[from], &hosts[to]), 1);
    lab.split(&[&hosts[0], &hosts[1]], &[&hosts[2], &hosts[3]]);
    for (from, to) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        assert!(reaches(from, to), "{from} and {to} are on one side");
    }
    for (from, to) in [(0, 2), (2, 0), (1, 3), (3, 1), (0, 3), (2, 1)] {
        assert!(!reaches(from, to), "{from} and {to} are on different sides");
    }
    lab.heal();
    assert!(reaches(0, 3) && reaches(2, 1));

    lab.around(&hosts[0]).cut();
    assert!(!reaches(0, 1) && !reaches(3, 0) && reaches(1, 2), "one host isolated");
}

#[test]
fn a_link_that_is_down_refuses_and_comes_back() {
    let Some(mut lab) = Lab::new(8) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    echo(&b);
    let socket = caller(&a, &b);
    assert!(answers(&socket, 1));
    b.link_down();
    assert!(!answers(&socket, 2), "the receiver's link is down");
    assert!(lab.counts().refused >= 1);
    b.link_up();
    assert!(answers(&socket, 3), "the receiver's link is up again");
    a.link_down();
    assert!(socket.send(b"dead").is_err(), "a host without a link has no route");
    a.link_up();
    assert!(answers(&socket, 4), "the sender's link is up again");
}

#[test]
fn tcp_carries_a_megabyte_through_loss_and_jitter() {
    let Some(mut lab) = Lab::new(9) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    let address = b.at(80);
    let listener = b.run(move || TcpListener::bind(address)).expect("the port is free");
    lab.link(&a, &b).delay(Duration::from_millis(1)).jitter(Duration::from_millis(1)).loss(0.01);
    let sent: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = sent.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("someone connects");
        stream.write_all(&sent).expect("the reader reads to the end");
    });
    let socket = a.resident().tcp_socket(address).expect("a socket can be had");
    socket.connect_timeout(&address.into(), Duration::from_secs(5)).expect("the listener accepts");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("TCP repairs loss");
    assert!(received == expected, "{} bytes arrived, not those that were sent", received.len());
}

#[test]
fn a_host_is_reached_on_its_loopback_while_cut_off() {
    let Some(mut lab) = Lab::new(10) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    let listener = a.run(|| TcpListener::bind("127.0.0.1:8500")).expect("the port is free");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("someone connects");
        let mut request = [0; 500];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n");
    });
    lab.cut(&a, &b);
    a.link_down();
    assert_eq!(a.http(8500).json("GET", "/", None).expect("loopback is no part of the cable")["a"], 1);
    assert!(b.http(8500).get("/").is_err(), "another host has another loopback");
}

#[test]
fn a_disk_of_a_host_is_small_and_seen_by_it_alone() {
    let Some(mut lab) = Lab::new(11) else { return };
    let a = lab.host("a");
    let dir = tempfile::tempdir().expect("a directory can be made");
    a.mount_disk(dir.path(), 1 << 20);
    let file = dir.path().join("filler");
    let inside = file.clone();
    let outcome = a.run(move || std::fs::write(inside, vec![0; 2 << 20]));
    assert_eq!(outcome.expect_err("two megabytes on a disk of one").kind(), std::io::ErrorKind::StorageFull);
    assert!(!file.exists(), "the disk is not seen outside");
}

/// Whether any task on this machine is in the network namespace with this inode.
fn inhabited(namespace: u64) -> bool {
    use std::os::unix::fs::MetadataExt;
    let entries = |path: std::path::PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries("/proc".into())
        .flat_map(|process| entries(process.join("task")))
        .any(|task| std::fs::metadata(task.join("ns/net")).is_ok_and(|data| data.ino() == namespace))
}

#[test]
fn hosts_and_their_processes_end_with_the_lab() {
    let Some(mut lab) = Lab::new(12) else { return };
    let host = lab.host("a");
    let mut sleeper = Command::new("sleep");
    sleeper.arg("1000");
    let mut sleeper = host.spawn(sleeper).expect("sleep can be started");
    let namespace = host.namespace;
    assert!(inhabited(namespace));
    drop(host);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _lab = lab;
        panic!("a failing test, as part of this one");
    }));
    assert!(outcome.is_err());
    wait_until(Duration::from_secs(5), "the sleeper is killed", || sleeper.try_wait().expect("it is our child").is_some());
    assert_eq!(sleeper.wait().expect("it has ended").signal(), Some(9));
    wait_until(Duration::from_secs(5), "nobody is left in the namespace", || !inhabited(namespace));
}

const CHILD: &str = "TIDINGS_LAB_SELFTEST_CHILD";

#[test]
fn a_killed_test_process_leaves_nothing() {
    if std::env::var_os(CHILD).is_some() {
        be_killed();
    }
    if Lab::new(13).is_none() {
        return;
    }
    let mut tester = Command::new(std::env::current_exe().expect("we run"))
        .args(["--exact", "a_killed_test_process_leaves_nothing", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("this binary can be started");
    let output = BufReader::new(tester.stdout.take().expect("it is piped"));
    let line = output.lines().map_while(Result::ok).find_map(|line| line.strip_prefix("inside ").map(str::to_owned));
    let line = line.expect("the tester says what it started");
    let (namespace, sleeper) = line.split_once(' ').expect("two numbers");
    let namespace = namespace.parse().expect("an inode");
    assert!(inhabited(namespace));
    tester.kill().expect("it runs");
    tester.wait().expect("it has ended");
    wait_until(Duration::from_secs(5), "nobody is left in the namespace", || !inhabited(namespace));
    assert!(!std::path::Path::new(&format!("/proc/{sleeper}/exe")).exists(), "the sleeper is gone");
}

#[expect(clippy::zombie_processes, reason = "nobody is left to wait: that is what is tested")]
fn be_killed() -> ! {
    let mut lab = Lab::new(13).expect("the parent has tried");
    let host = lab.host("a");
    let mut sleeper = Command::new("sleep");
    sleeper.arg("1000");
    let sleeper = host.spawn(sleeper).expect("sleep can be started");
    // libtest holds the line back until the test ends, also for one test alone, unless it starts on a new line.
    println!("\ninside {} {}", host.namespace, sleeper.id());
    std::thread::sleep(Duration::from_secs(60));
    unreachable!("the parent kills this process");
}
