"""The store: versions, compare-and-swap, and a status that nobody overwrites."""

import threading
from pathlib import Path

import pytest

from penstock.components.control.base import ABSENT, ControlError, Manifest, ObjectConflict, ObjectRef
from penstock.components.control.laptop.store import Store

REF = ObjectRef("v1", "Thing", "one")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "objects")


def thing(value: int = 0, **metadata: object) -> Manifest:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "one", **metadata}, "spec": {"value": value}}


def test_a_new_object_gets_what_a_server_adds(store: Store) -> None:
    metadata = store.put(thing())["metadata"]

    assert metadata["generation"] == 1
    assert metadata["namespace"] == "default"
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")


def test_the_generation_counts_changes_of_the_spec_only(store: Store) -> None:
    first = store.put(thing(1))
    same = store.put(thing(1))
    labelled = store.put(thing(1, labels={"a": "b"}))
    changed = store.put(thing(2))
    renewed = store.put(thing(2), renew=True)

    assert same == first
    assert [found["metadata"]["generation"] for found in (labelled, changed, renewed)] == [1, 2, 3]
    versions = [int(found["metadata"]["resourceVersion"]) for found in (first, labelled, changed, renewed)]
    assert versions == sorted(set(versions))
    assert changed["metadata"]["uid"] == first["metadata"]["uid"]


def test_a_stale_version_is_a_conflict(store: Store) -> None:
    old = store.put(thing(1))["metadata"]["resourceVersion"]
    store.put(thing(2, resourceVersion=old))

    with pytest.raises(ObjectConflict, match=f"Thing default/one is at version .* expects {old}"):
        store.put(thing(3, resourceVersion=old))
    found = store.load(REF)
    assert found is not None
    assert found["spec"] == {"value": 2}


def test_an_object_that_must_not_exist_is_made_only_once(store: Store) -> None:
    store.put(thing(1, resourceVersion=ABSENT))

    with pytest.raises(ObjectConflict, match="expects 0"):
        store.put(thing(2, resourceVersion=ABSENT))
    store.delete(REF)
    with pytest.raises(ObjectConflict, match="does not exist"):
        store.put(thing(2, resourceVersion="17"))


def test_of_many_that_swap_at_once_one_wins_each_round(store: Store) -> None:
    version = store.put(thing(0))["metadata"]["resourceVersion"]
    wins: list[int] = []

    def swap(value: int) -> None:
        try:
            store.put(thing(value, resourceVersion=version))
        except ObjectConflict:
            return
        wins.append(value)

    threads = [threading.Thread(target=swap, args=(value,)) for value in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(wins) == 1
    found = store.load(REF)
    assert found is not None
    assert found["spec"] == {"value": wins[0]}


def test_status_and_spec_do_not_overwrite_each_other(store: Store) -> None:
    first = store.put(thing(1))
    store.put_status(REF, first["metadata"]["uid"], {"ready": True})
    changed = store.put(thing(2) | {"status": {"ready": "what a client says here is dropped"}})

    assert changed["status"] == {"ready": True}
    assert changed["spec"] == {"value": 2}
    assert store.list("Thing") == [{key: changed[key] for key in changed if key != "status"}]


def test_the_status_of_an_earlier_object_of_that_name_is_not_taken_for_the_new_ones(store: Store) -> None:
    uid = store.put(thing(1))["metadata"]["uid"]
    store.delete(REF)
    store.put_status(REF, uid, {"ready": True})
    assert store.load(REF) is None

    store.put(thing(1))
    store.put_status(REF, uid, {"ready": True})
    assert "status" not in (store.load(REF) or {})


def test_a_new_object_has_its_first_status_and_an_old_one_keeps_its_own(store: Store) -> None:
    assert store.put(thing(1), status={"ready": False})["status"] == {"ready": False}
    assert store.put(thing(2), status={"ready": True})["status"] == {"ready": False}


@pytest.mark.parametrize("name", ["../x", "A", "", "a.b", "x" * 64])
def test_a_name_that_is_none_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ControlError, match="for example fashion-mnist"):
        store.put({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": name}})


def test_a_damaged_file_is_named(store: Store, tmp_path: Path) -> None:
    store.put(thing())
    path = tmp_path / "objects" / "thing" / "default.one.json"
    path.write_text("{")

    with pytest.raises(ControlError, match=str(path)):
        store.load(REF)
