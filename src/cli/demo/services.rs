//! The demo's services: each answers every connection with a greeting over HTTP.

use super::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request is read up to here, and not looked at.
const REQUEST_BYTES: usize = 4_096;

/// Runs until it is dropped.
pub struct Tiny {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Tiny {
    pub async fn start(greeting: String) -> Result<Self, Failure> {
        let refuse = |why: std::io::Error| Failure::failed(format!("no port on loopback is free: {why}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refuse)?;
        let port = listener.local_addr().map_err(refuse)?.port();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // A caller that went away is its own affair.
                let _ = greet(connection, &greeting).await;
            }
        });
        Ok(Self { port, task })
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn greet(mut connection: TcpStream, greeting: &str) -> std::io::Result<()> {
    let _ = connection.read(&mut [0; REQUEST_BYTES]).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", greeting.len());
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(greeting.as_bytes()).await
}

/// What the service at a port answers.
pub async fn call(port: u16) -> Result<String, Failure> {
    let response = reqwest::get(format!("http://127.0.0.1:{port}/")).await;
    let refuse = |why: reqwest::Error| Failure::failed(format!("the service at {port} cannot be called: {why}"));
    response.map_err(refuse)?.text().await.map_err(refuse)
}
