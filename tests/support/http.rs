//! A small HTTP server for cameras that speak HTTP: files from a folder, and MJPEG without end. And a client
//! that asks one thing.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

pub struct HttpServer {
    port: u16,
}

impl HttpServer {
    /// Serves the files of `folder`; `/video` is `frame.jpg` of it, 10 times a second, for ever. With
    /// `login`, only to those who bring these Basic credentials (as they stand in the header).
    pub fn start(folder: PathBuf, login: Option<&'static str>) -> HttpServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let folder = folder.clone();
                std::thread::spawn(move || drop(answer(&client, &folder, login)));
            }
        });
        HttpServer { port }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

fn answer(mut client: &TcpStream, folder: &Path, login: Option<&str>) -> std::io::Result<()> {
    let mut lines = BufReader::new(client).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let request = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.collect();
    if login.is_some_and(|login| !headers.iter().any(|header| header.ends_with(&format!("Basic {login}")))) {
        let refusal =
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nContent-Length: 0\r\n\r\n";
        return client.write_all(refusal.as_bytes());
    }
    let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
    if path == "video" {
        let jpeg = std::fs::read(folder.join("frame.jpg"))?;
        client
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n")?;
        loop {
            let head = format!("--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
            client.write_all(head.as_bytes())?;
            client.write_all(&jpeg)?;
            client.write_all(b"\r\n")?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let Ok(body) = std::fs::read(folder.join(path)) else {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let kind = match path.rsplit('.').next() {
        Some("jpg") => "image/jpeg",
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("ts") => "video/mp2t",
        _ => "application/octet-stream",
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    client.write_all(head.as_bytes())?;
    client.write_all(&body)
}

/// What a server answered.
pub struct Answer {
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

/// Asks for `path` and reads all of the answer; none where nobody listens.
pub fn get(port: u16, path: &str, accept: &str) -> Option<Answer> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    server.set_read_timeout(Some(super::DEADLINE)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    Some(Answer { head: head.to_lowercase(), body: body.into() })
}
