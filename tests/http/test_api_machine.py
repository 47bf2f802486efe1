"""Whatever is asked in whatever order, the service answers like a dictionary."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server
from tests.harness.soak import examples

ids = st.sampled_from([f"id-{n}" for n in range(12)])
seeds = st.integers(0, 8)
metadata = st.fixed_dictionaries(
    {}, optional={"brand": st.sampled_from(["acme", "zeta"]), "price": st.integers(0, 5), "note": st.text(max_size=20)}
)
ACME = json.dumps({"must": [{"key": "brand", "match": "acme"}]})


class ApiMachine(RuleBasedStateMachine):
    """The model: id → (number of the picture, metadata). Each answer is held against the document by the client."""

    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, tuple[int, dict[str, Any]]] = {}
        self.client = self.server.client
        assert self.client.delete("/v1/collections/default").status_code == 204

    @rule(id=ids, seed=seeds, about=metadata)
    def put(self, id: str, seed: int, about: dict[str, Any]) -> None:
        answer = self.server.put("default", id, jpeg(seed), json.dumps(about))
        assert answer.status_code == (200 if id in self.model else 201)
        assert answer.json()["metadata"] == about
        self.model[id] = seed, about

    @rule(id=ids)
    def put_no_picture(self, id: str) -> None:
        assert self.server.put("default", id, b"no picture").status_code == 415
        assert self.server.put("default", id, jpeg(1)[:-200]).status_code == 422

    @rule(id=ids, patch=metadata)
    def patch(self, id: str, patch: dict[str, Any]) -> None:
        answer = self.client.patch(f"/v1/collections/default/items/{id}", json={"metadata": patch})
        assert answer.status_code == (200 if id in self.model else 404)
        if id in self.model:
            seed, about = self.model[id]
            self.model[id] = seed, {**about, **patch}

    @rule(id=ids)
    def delete(self, id: str) -> None:
        answer = self.client.delete(f"/v1/collections/default/items/{id}")
        assert answer.status_code == (204 if self.model.pop(id, None) else 404)

    @rule()
    def delete_where(self) -> None:
        gone = [id for id, (_, about) in self.model.items() if about.get("brand") == "acme"]
        answer = self.client.post("/v1/collections/default/items/delete", json={"filter": json.loads(ACME)})
        assert answer.json() == {"deleted": len(gone)}
        for id in gone:
            del self.model[id]

    @rule(seed=seeds)
    def search(self, seed: int) -> None:
        found = self.server.search("default", jpeg(seed), limit=100, score_threshold=-1).json()
        assert found["filtered_count"] == len(self.model)
        scores = {result["id"]: result["score"] for result in found["results"]}
        assert scores.keys() == self.model.keys()
        assert all(scores[id] == 1 for id, (number, _) in self.model.items() if number == seed)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        passing = {id for id, (_, about) in self.model.items() if about.get("brand") == "acme"}
        found = self.server.search("default", jpeg(seed), limit=100, score_threshold=-1, filter=ACME).json()
        assert {result["id"] for result in found["results"]} == passing and found["filtered_count"] == len(passing)

    @rule(id=ids)
    def similar(self, id: str) -> None:
        path = f"/v1/collections/default/items/{id}/similar"
        answer = self.client.get(path, params={"limit": 100, "score_threshold": -1})
        assert answer.status_code == (200 if id in self.model else 404)
        if id in self.model:
            assert {result["id"] for result in answer.json()["results"]} == self.model.keys() - {id}

    @invariant()
    def same_items(self) -> None:
        page = self.client.get("/v1/collections/default/items", params={"limit": 1000}).json()
        assert {item["id"]: item["metadata"] for item in page["items"]} == {
            id: about for id, (_, about) in self.model.items()
        }
        assert self.client.get("/v1/collections/default").json()["count"] == len(self.model)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_service_answers_like_a_dictionary(server: StartServer) -> None:
    ApiMachine.server = server(env={"LOOKALIKE_MODEL": "histogram"})
    few = settings(
        max_examples=examples(8), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(ApiMachine, settings=few)
    assert ApiMachine.server.cli("verify", "--json").returncode == 0
