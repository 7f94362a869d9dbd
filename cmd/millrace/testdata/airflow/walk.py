"""Walks all that millrace answers of Airflow's API with Airflow's own client, and prints what that understood as one JSON object.

usage: walk.py URL PASSWORD
"""

import json
import sys
import urllib.request

import airflow_client.client as airflow
from airflow_client.client.exceptions import ApiException


def token(url, password):
    """As the client's documentation says: POST /auth/token, 201, access_token."""
    body = json.dumps({"username": "admin", "password": password}).encode()
    request = urllib.request.Request(url + "/auth/token", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201, answer.status
        return json.load(answer)["access_token"]


def plain(model):
    return json.loads(model.to_json())


def by_offset(page):
    """Collects pages of two until as many are there as the total says."""
    out = []
    while True:
        rows, total = page(limit=2, offset=len(out))
        out += rows
        if not rows or len(out) >= total:
            assert len(out) == total, (len(out), total)
            return out


def by_cursor(page):
    out, cursor = [], ""
    while cursor is not None:
        answer = page(limit=2, cursor=cursor)
        out += [r.dag_run_id for r in answer.dag_runs]
        cursor = answer.next_cursor
    return out


def refused(call, *args, **kwargs):
    """Returns status and body of the error that the call must end in."""
    try:
        call(*args, **kwargs)
    except ApiException as e:
        return {"status": e.status, "kind": type(e).__name__, "body": json.loads(e.body)}
    return {"status": 200}


def log(tasks, at, number, index):
    """Reads a log to its end, or to where it is now."""
    lines, parts, token = [], 0, None
    while True:
        kwargs = {"token": token} if token else {}
        part = tasks.get_log(*at, number, map_index=index, full_content=False, accept="application/json", **kwargs)
        lines += [m.event for m in part.content.actual_instance]
        parts += 1
        if part.continuation_token in (None, token):
            return {"lines": lines, "parts": parts, "ended": part.continuation_token is None}
        token = part.continuation_token


def instance(tasks, at, t):
    """Asks for all that there is of a task, in every way that there is."""
    mapped = t.map_index >= 0
    assert tasks.get_mapped_task_instance(*at, t.map_index) == t
    tries = tasks.get_mapped_task_instance_tries(*at, t.map_index)
    assert tries.total_entries == len(tries.task_instances)
    if not mapped:
        assert tasks.get_task_instance(*at) == t
        assert tasks.get_task_instance_tries(*at) == tries
    for n in tries.task_instances:
        assert n.map_index == t.map_index
        assert tasks.get_mapped_task_instance_try_details(*at, n.try_number, t.map_index) == n
        if not mapped:
            assert tasks.get_task_instance_try_details(*at, n.try_number) == n
    return {
        "task": plain(t), "tries": [plain(n) for n in tries.task_instances],
        "logs": [log(tasks, at, n.try_number, t.map_index) for n in tries.task_instances],
        "plain": refused(tasks.get_task_instance, *at)["status"],
    }


def mapped_of(tasks, at):
    """Returns the indices of a mapped task, newest last, or the status of the refusal."""
    try:
        found = by_offset(lambda **page: (lambda a: (a.task_instances, a.total_entries))(tasks.get_mapped_task_instances(*at, **page)))
    except ApiException as e:
        return {"status": e.status}
    back = tasks.get_mapped_task_instances(*at, order_by=["-map_index"]).task_instances
    assert back == sorted(found, key=lambda t: -t.map_index), back
    failed = tasks.get_mapped_task_instances(*at, state=["failed"]).task_instances
    assert failed == [t for t in found if t.state == "failed"], failed
    return {"status": 200, "indices": [t.map_index for t in found], "rows": found}


def run_of(tasks, dag, run):
    out, lists = [], {}
    for t in by_offset(lambda **page: (lambda a: (a.task_instances, a.total_entries))(tasks.get_task_instances(dag, run, **page))):
        at = (dag, run, t.task_id)
        if t.task_id not in lists:
            lists[t.task_id] = mapped_of(tasks, at)
        rows = lists[t.task_id].get("rows", [])
        assert not rows or t in rows, (t, rows)
        listed = {k: v for k, v in lists[t.task_id].items() if k != "rows"}
        out.append({**instance(tasks, at, t), "mapped": listed})
    return out


def backfills_of(api, dag):
    found = by_offset(lambda **page: (lambda a: (a.backfills, a.total_entries))(api.list_backfills(dag, **page)))
    for b in found:
        assert api.get_backfill(b.id) == b
    return [plain(b) for b in found]


def main(url, password):
    config = airflow.Configuration(host=url, access_token=token(url, password))
    with airflow.ApiClient(config) as client:
        dags, runs, tasks = airflow.DAGApi(client), airflow.DagRunApi(client), airflow.TaskInstanceApi(client)
        out = {
            "version": plain(airflow.VersionApi(client).get_version()),
            "health": plain(airflow.MonitorApi(client).get_health()),
            "pools": [plain(p) for p in by_offset(lambda **page: (lambda a: (a.pools, a.total_entries))(airflow.PoolApi(client).get_pools(**page)))],
            "pool": plain(airflow.PoolApi(client).get_pool("default_pool")),
            "variables": plain(airflow.VariableApi(client).get_variables()),
            "connections": plain(airflow.ConnectionApi(client).get_connections()),
            "import_errors": plain(airflow.ImportErrorApi(client).get_import_errors()),
            "dags": [], "details": {}, "runs": {}, "cursor": {}, "tasks": {}, "states": {}, "backfills": {},
        }
        for d in by_offset(lambda **page: (lambda a: (a.dags, a.total_entries))(dags.get_dags(**page))):
            assert dags.get_dag(d.dag_id) == d
            out["dags"].append(plain(d))
            out["details"][d.dag_id] = plain(dags.get_dag_details(d.dag_id))
            out["backfills"][d.dag_id] = backfills_of(airflow.BackfillApi(client), d.dag_id)
            found = by_offset(lambda **page: (lambda a: (a.dag_runs, a.total_entries))(runs.get_dag_runs(d.dag_id, order_by=["-start_date"], **page)))
            out["runs"][d.dag_id] = [plain(r) for r in found]
            out["cursor"][d.dag_id] = by_cursor(lambda **page: runs.get_dag_runs(d.dag_id, **page))
            for r in found:
                assert runs.get_dag_run(d.dag_id, r.dag_run_id) == r
                out["tasks"][r.dag_run_id] = run_of(tasks, d.dag_id, r.dag_run_id)
        for state in ("queued", "running", "success", "failed"):
            out["states"][state] = [r.dag_run_id for r in runs.get_dag_runs("~", state=[state], limit=1000).dag_runs]
        out["refused"] = {
            "dag": refused(dags.get_dag, "none"),
            "run": refused(runs.get_dag_run, "etl", "none"),
            "write": refused(dags.patch_dag, "etl", airflow.DAGPatchBody(is_paused=True)),
            "backfill": refused(airflow.BackfillApi(client).get_backfill, 17),
            "filter": refused(runs.get_dag_runs, "etl", run_id_pattern="x"),
            "token": refused(airflow.DAGApi(airflow.ApiClient(airflow.Configuration(host=url, access_token="wrong"))).get_dags),
        }
    json.dump(out, sys.stdout)


main(*sys.argv[1:])
