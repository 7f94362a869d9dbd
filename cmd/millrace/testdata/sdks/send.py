"""Gives the SDK `count` events of all six types, shuts it down, and prints what the SDK says became of them.

usage: send.py HOST WRITE_KEY COUNT
"""
import json
import sys

import segment.analytics as analytics

host, write_key, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
analytics.write_key = write_key
analytics.host = host  # the only option that points it at millrace

errors = []
analytics.on_error = lambda error, batch: errors.append(f"{len(batch)} events: {error}")

calls = {
    "identify": lambda i: analytics.identify(f"user-{i}", {"plan": "free", "n": i}),
    "track": lambda i: analytics.track(f"user-{i}", "Order Completed", {"total": i + 0.5, "note": "Zürich, 東京"}),
    "page": lambda i: analytics.page(f"user-{i}", "Docs", "Quick start", {"url": "/docs"}),
    "screen": lambda i: analytics.screen(f"user-{i}", "Settings", "Privacy"),
    "group": lambda i: analytics.group(f"user-{i}", f"group-{i}", {"seats": i}),
    "alias": lambda i: analytics.alias(f"visitor-{i}", f"user-{i}"),
}
types = list(calls)

given = {}
for i in range(count):
    kind = types[i % len(types)]
    queued, message = calls[kind](i)
    if not queued:
        errors.append(f"event {i} was not queued")
    given[message["messageId"]] = kind

analytics.shutdown()
print(json.dumps({"given": given, "errors": errors}))
