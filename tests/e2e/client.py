#!/usr/bin/python3
"""tests/e2e/client.py: a client in Python, written from proto/unlearn.proto and docs/format.md alone.

  client.py STUBS ADDRESS SERVER-KEY-FILE CLIENT-KEY-FILE COMMAND ARGUMENT...

  ping
  schema DATASET                 names of the columns, as JSON
  predict MODEL VALUE...         one row of numeric columns; prints the probabilities as JSON
  delete DATASET UUID ID...      prints state and records_deleted as JSON
  many MODEL N VALUE...          the same prediction so many times: the answers must be one

Prints one JSON object. Ends with 0; 4 refused, 3 not found, 5 nobody answers, 1 else.
"""
import json
import random
import struct
import sys
import uuid

import zmq

TIMEOUT_MS = 5000


def read_key(path):
    """docs/format.md, "Keys": three lines, or two where there is no secret."""
    with open(path, encoding="ascii") as file:
        lines = file.read().split("\n")
    if lines[0] != "unlearnd-key-1" or not lines[1].startswith("public "):
        raise SystemExit(f"{path} is no key file")
    secret = lines[2][len("secret "):] if lines[2].startswith("secret ") else ""
    return bytes.fromhex(lines[1][len("public "):]), bytes.fromhex(secret)


class Refused(Exception):
    pass


class Client:
    def __init__(self, stubs, address, server_file, key_file):
        sys.path.insert(0, stubs)
        import unlearn_pb2  # What protoc makes of unlearn.proto.

        self.pb = unlearn_pb2
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        public, secret = read_key(key_file)
        self.socket.curve_serverkey = read_key(server_file)[0]
        self.socket.curve_publickey = public
        self.socket.curve_secretkey = secret
        self.socket.linger = 0
        self.socket.connect(address)

    def ask(self, raw=b"", **body):
        request = self.pb.Request(version=1, request_id=random.getrandbits(63) | 1, **body)
        frames = [request.SerializeToString()] + ([raw] if raw else [])
        self.socket.send_multipart(frames)
        if not self.socket.poll(TIMEOUT_MS):
            raise TimeoutError
        frames = self.socket.recv_multipart()
        reply = self.pb.Reply.FromString(frames[0])
        if reply.request_id != request.request_id:
            raise SystemExit("an answer to another question")
        if reply.status != self.pb.STATUS_OK:
            raise Refused(self.pb.Status.Name(reply.status), reply.message)
        return reply, frames[1] if len(frames) > 1 else b""

    def close(self):
        self.socket.close()
        self.context.term()


def columns_of(schema):
    """docs/format.md, "Schema": the names and kinds of its columns, and how long the label of a row is."""
    at = 0

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, schema, at)
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        count = take("H")
        at += count
        return schema[at - count:at].decode()

    assert take("H") == 1
    task = take("B")
    text(), take("B")
    for _ in range(take("I")):
        text()
    columns = []
    for _ in range(take("I")):
        name, kind = text(), take("B")
        if kind == 1:
            columns.append((name, "numeric", take("I")))
            take("B"), take("f"), take("f")
        elif kind == 2:
            columns.append((name, "category", [text() for _ in range(take("I"))]))
        elif kind == 3:
            columns.append((name, "pixels", take("I") * take("I")))
        else:
            columns.append((name, "text" if kind == 4 else "ignored", 0))
    return {0: 0, 1: 2, 2: 4}[task], columns


def row_of(schema, values):
    """docs/format.md, "Row", for numeric columns and categories."""
    label, columns = columns_of(schema)
    row = bytes(label)
    shown = [column for column in columns if column[1] != "ignored"]
    assert len(shown) == len(values), f"{len(values)} values for {len(shown)} columns"
    for (_, kind, more), value in zip(shown, values):
        if kind == "numeric":
            row += struct.pack("<f", float(value))
        else:
            row += struct.pack("<H", more.index(value) if value in more else len(more))
    return row


def predict(client, model, values):
    shown, _ = client.ask(model_show=client.pb.ModelShow(model=model))
    row = row_of(shown.model.schema, values)
    reply, raw = client.ask(struct.pack("<I", len(row)) + row,
                            predict=client.pb.Predict(model=model, rows=1))
    answer = reply.prediction
    numbers = struct.unpack(f"<{answer.rows * answer.width}f", raw)
    return {"numbers": numbers, "shards_used": answer.shards_used, "epoch": answer.epoch}


def run(client, command, arguments):
    pb = client.pb
    if command == "ping":
        reply, _ = client.ask(ping=pb.Ping())
        return {"build": reply.pong.build, "workers": reply.pong.workers}
    if command == "schema":
        reply, _ = client.ask(dataset_show=pb.DatasetShow(dataset=arguments[0]))
        return {"columns": [column[0] for column in columns_of(reply.dataset.schema)[1]]}
    if command == "predict":
        return predict(client, arguments[0], arguments[1:])
    if command == "many":
        answers = {predict(client, arguments[0], arguments[2:])["numbers"]
                   for _ in range(int(arguments[1]))}
        return {"different": len(answers)}
    if command == "delete":
        reply, _ = client.ask(delete=pb.Delete(dataset=arguments[0],
                                               uuid=uuid.UUID(arguments[1]).bytes,
                                               records=arguments[2:]))
        state = reply.request_state
        return {"phase": pb.RequestPhase.Name(state.phase), "records_deleted": state.records_deleted,
                "receipt_bytes": len(state.accepted)}
    raise SystemExit(f"no such command: {command}")


def main():
    client = Client(*sys.argv[1:5])
    try:
        print(json.dumps(run(client, sys.argv[5], sys.argv[6:])))
        code = 0
    except Refused as refused:
        print(json.dumps({"status": refused.args[0], "message": refused.args[1]}))
        code = {"STATUS_PERMISSION_DENIED": 4, "STATUS_CONFLICT": 4, "STATUS_NOT_FOUND": 3}.get(refused.args[0], 1)
    except TimeoutError:
        print(json.dumps({"status": "nobody answers"}))
        code = 5
    client.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
