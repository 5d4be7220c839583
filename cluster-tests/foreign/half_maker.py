"""A foreign instance plugin as real ones are on a bad day: what it makes is listed for a while, then a later step
fails, and it is removed again and refused. Its listings show what was there when they began.

Called with a folder as its last argument. Serves the socket `plugins/half`; half-makes while the file `half-making` is
there; appends one line to `half.log` for whatever it does.
"""

import http.server
import json
import os
import random
import socketserver
import sys
import threading
import time

home = sys.argv[-1]
lock = threading.Lock()
instances = {}
count = 0


def note(line):
    with open(f"{home}/half.log", "a") as log:
        log.write(line + "\n")


class Refused(Exception):
    pass


def provision(params):
    global count
    tags = params["Spec"].get("Tags") or {}
    with lock:
        count += 1
        name = f"u-{count}"
        instances[name] = {"ID": name, "LogicalID": params["Spec"].get("LogicalID"), "Tags": tags}
    if not os.path.exists(f"{home}/half-making"):
        note(f"made {name}")
        return {"Type": params.get("Type", ""), "ID": name}
    time.sleep(random.uniform(0.2, 5))
    with lock:
        del instances[name]
    note(f"half-made {name}")
    raise Refused("the address could not be attached")


def describe(params):
    wanted = (params.get("Tags") or {}).items()
    with lock:
        shown = [dict(it) for it in instances.values() if wanted <= it["Tags"].items()]
    time.sleep(random.uniform(0, 3))
    return {"Type": params.get("Type", ""), "Descriptions": shown}


def destroy(params):
    with lock:
        gone = instances.pop(params["Instance"], None)
    note(f"destroyed {params['Instance']}")
    if gone is None:
        raise Refused("no such instance")
    return {"Type": params.get("Type", ""), "OK": True}


METHODS = {
    "Handshake.Hello": lambda params: {"Objects": {"Instance/0.6.1": [{"Name": ".", "ProxyFor": ""}]}},
    "Instance.Validate": lambda params: {"Type": params.get("Type", ""), "OK": True},
    "Instance.Label": lambda params: {"Type": params.get("Type", ""), "OK": True},
    "Instance.Provision": provision,
    "Instance.DescribeInstances": describe,
    "Instance.Destroy": destroy,
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            reply["result"] = METHODS[call["method"]](call.get("params") or {})
        except Refused as why:
            reply["error"] = {"code": -32000, "message": str(why), "data": None}
        except KeyError:
            reply["error"] = {"code": -32601, "message": f"no method {call['method']}", "data": None}
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "manager"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


Server(f"{home}/plugins/half", Handler).serve_forever()
