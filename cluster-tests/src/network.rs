//! A network of its own for every manager: hosts in network namespaces on one switch, whose lines can be
//! cut in either direction and made narrow. Needs root and iproute2.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Some hosts and a switch, and this process beside them.
#[derive(Debug)]
pub struct Network {
    tag: String,
    subnet: u8,
    hosts: usize,
}

fn ip(args: &[&str]) -> io::Result<()> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> io::Result<()> {
    let done = Command::new(program).args(args).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {said}", args.join(" "))))
}

impl Network {
    /// Sets up `hosts` hosts.
    pub fn of(hosts: usize) -> io::Result<Self> {
        // One process may set up several, one after another; the kernel removes them in its own time.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let network = Self { tag: format!("{:05}", number % 100_000), subnet: (number % 250) as u8, hosts };
        network.remove();
        // The switch has a namespace too: rules of this machine's firewall must not see its frames.
        let switch = network.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "sw", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "sw", "up"])?;
        let here = network.here();
        ip(&["link", "add", &here, "type", "veth", "peer", "name", "client", "netns", &switch])?;
        network.plug("client")?;
        ip(&["addr", "add", &format!("10.213.{}.1/24", network.subnet), "dev", &here])?;
        ip(&["link", "set", &here, "up"])?;
        for i in 0..hosts {
            let (host, port) = (network.host(i), format!("p{i}"));
            ip(&["netns", "add", &host])?;
            ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "e0", "netns", &host])?;
            network.plug(&port)?;
            ip(&["-n", &host, "addr", "add", &format!("{}/24", network.address(i)), "dev", "e0"])?;
            ip(&["-n", &host, "link", "set", "e0", "up"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn plug(&self, port: &str) -> io::Result<()> {
        let switch = self.switch();
        ip(&["-n", &switch, "link", "set", port, "master", "sw"])?;
        ip(&["-n", &switch, "link", "set", port, "up"])
    }

    fn switch(&self) -> String {
        format!("ik{}sw", self.tag)
    }

    fn here(&self) -> String {
        format!("ik{}c", self.tag)
    }

    fn host(&self, i: usize) -> String {
        format!("ik{}h{i}", self.tag)
    }

    /// The address of a host.
    pub fn address(&self, i: usize) -> String {
        format!("10.213.{}.{}", self.subnet, 10 + i)
    }

    /// What stands before a command that is to run on a host.
    pub fn enter(&self, i: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.host(i)].map(String::from).into()
    }

    /// What `from` sends to `to` is lost from now on, without a word: it goes to a machine that is not.
    pub fn cut(&self, from: usize, to: usize) -> io::Result<()> {
        let nobody = "02:00:00:00:00:01";
        let (host, to) = (self.host(from), self.address(to));
        ip(&["-n", &host, "neigh", "replace", &to, "lladdr", nobody, "dev", "e0", "nud", "permanent"])
    }

    /// A host sends no more than so many kilobits in a second; what does not fit is lost.
    pub fn narrow(&self, i: usize, kilobits: u32) -> io::Result<()> {
        let rate = format!("{kilobits}kbit");
        run(
            "tc",
            &[
                "-n",
                &self.host(i),
                "qdisc",
                "replace",
                "dev",
                "e0",
                "root",
                "tbf",
                "rate",
                &rate,
                "burst",
                "8kb",
                "latency",
                "300ms",
            ],
        )
    }

    /// Every line is whole again.
    pub fn heal(&self) {
        for i in 0..self.hosts {
            let host = self.host(i);
            // What was not cut cannot be mended, and need not.
            let _ = run("tc", &["-n", &host, "qdisc", "del", "dev", "e0", "root"]);
            let _ = ip(&["-n", &host, "neigh", "flush", "all", "nud", "permanent"]);
            for other in (0..self.hosts).filter(|other| *other != i) {
                let _ = ip(&["-n", &host, "neigh", "del", &self.address(other), "dev", "e0"]);
            }
        }
    }

    fn remove(&self) {
        for i in 0..self.hosts {
            let _ = ip(&["netns", "del", &self.host(i)]);
        }
        let _ = ip(&["netns", "del", &self.switch()]);
        let _ = ip(&["link", "del", &self.here()]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}
