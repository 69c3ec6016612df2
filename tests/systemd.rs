//! What systemd hears of an agent over its life, and that a reload reads the settings again.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Kills what a failed test would leave behind.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next message that holds `word`.
fn heard(socket: &UnixDatagram, word: &str) -> String {
    let started = Instant::now();
    let mut buffer = [0; 4_096];
    while started.elapsed() < PATIENCE {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if said.contains(word) {
            return said;
        }
    }
    panic!("systemd did not hear {word}");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

#[test]
fn systemd_hears_of_readiness_life_reloads_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let settings = dir.path().join("tidings.toml");
    std::fs::write(&settings, "[gossip]\njoin = []\n").unwrap();
    let log = dir.path().join("log");
    let child = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["agent", "--no-dns", "--insecure", "--gossip", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .arg("--config")
        .arg(&settings)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .expect("the binary runs");
    let mut agent = Killed(child);
    assert!(heard(&socket, "READY=1").contains("STATUS="));
    heard(&socket, "WATCHDOG=1");
    heard(&socket, "WATCHDOG=1");
    std::fs::write(&settings, "[gossip]\njoin = ['127.0.0.1:9']\n").unwrap();
    signal(&agent.0, "-HUP");
    assert!(heard(&socket, "RELOADING=1").contains("MONOTONIC_USEC="));
    heard(&socket, "READY=1");
    std::fs::write(&settings, "[gossip]\njoyn = []\n").unwrap();
    signal(&agent.0, "-HUP");
    heard(&socket, "RELOADING=1");
    heard(&socket, "READY=1");
    signal(&agent.0, "-TERM");
    heard(&socket, "STOPPING=1");
    assert!(agent.0.wait().unwrap().success());
    let said = std::fs::read_to_string(&log).unwrap();
    let is_told = said.lines().any(|line| line.contains("the settings were read again") && line.contains("gossip.join"));
    assert!(is_told, "the new seed is told: {said}");
    assert!(said.contains("Did you mean gossip.join"), "a wrong file is refused and changes nothing: {said}");
    assert!(!said.contains("ERROR"), "{said}");
}
