//! A small HTTP server in place of HTTP cameras: files of a folder, an endless MJPEG stream, and a sequence
//! of stills. And a client for a single request.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub struct HttpServer {
    port: u16,
}

impl HttpServer {
    /// Serves the files of `folder`. `/video` is an endless MJPEG stream that repeats its `frame.jpg` 10
    /// times per second. `/next.jpg` is another of its files `00000.jpg`, `00001.jpg` and so on at each
    /// request, and the last one when all have been sent. With `login`, requests need these Basic credentials
    /// (base64, as in the header).
    pub fn start(folder: PathBuf, login: Option<&'static str>) -> HttpServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stills = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (folder, stills) = (folder.clone(), stills.clone());
                std::thread::spawn(move || drop(answer(&client, &folder, login, &stills)));
            }
        });
        HttpServer { port }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

/// The next file of the sequence of stills.
fn next_still(folder: &Path, stills: &AtomicUsize) -> String {
    let number = stills.fetch_add(1, Ordering::Relaxed);
    let names = (0..=number).rev().map(|number| format!("{number:05}.jpg"));
    names.into_iter().find(|name| folder.join(name).exists()).unwrap_or_default()
}

fn answer(
    mut client: &TcpStream,
    folder: &Path,
    login: Option<&str>,
    stills: &AtomicUsize,
) -> std::io::Result<()> {
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
            // The stream's frame rate.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let still = if path == "next.jpg" { next_still(folder, stills) } else { path.to_string() };
    let Ok(body) = std::fs::read(folder.join(still)) else {
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

/// An HTTP server whose answers the test writes.
pub struct ScriptedServer {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A request that a [`ScriptedServer`] has received.
#[derive(Debug, Clone)]
pub struct Request {
    /// With the slash and without the query.
    pub path: String,
    /// How many requests for this path came before.
    pub number: usize,
    /// Request line and headers.
    pub head: String,
}

impl ScriptedServer {
    /// Calls `answer` for each request, on a thread of its own. The connection is closed when it returns.
    pub fn start(
        answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> ScriptedServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, requests) = (Arc::new(answer), Arc::new(Mutex::new(Vec::<Request>::new())));
        let received = requests.clone();
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let (answer, received) = (answer.clone(), received.clone());
                std::thread::spawn(move || {
                    let lines = BufReader::new(&client).lines().map_while(Result::ok);
                    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                    let path = head.first().and_then(|line| line.split([' ', '?']).nth(1));
                    let path = path.unwrap_or_default().to_string();
                    let request = {
                        let mut received = received.lock().unwrap();
                        let number = received.iter().filter(|request| request.path == path).count();
                        received.push(Request { path, number, head: head.join("\n") });
                        received.last().unwrap().clone()
                    };
                    // The client may close the connection at any time.
                    let _ = answer(&request, &mut client);
                });
            }
        });
        ScriptedServer { port, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The requests for a path so far.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.path == path).cloned().collect()
    }
}

/// An HTTP response.
pub struct Answer {
    /// Status line and headers, in lower case.
    pub head: String,
    pub body: String,
}

/// Requests `path` and reads the whole response. Returns None if the connection is refused, or closed without
/// an answer.
pub fn get(port: u16, path: &str, accept: &str) -> Option<Answer> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    server.set_read_timeout(Some(super::DEADLINE)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).ok().filter(|len| *len > 0)?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP response");
    Some(Answer { head: head.to_lowercase(), body: body.into() })
}
