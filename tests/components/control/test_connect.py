"""Which plane: the environment says."""

import json
from pathlib import Path

import pytest

from penstock.components.control import connect as module
from penstock.components.control.base import ControlError
from penstock.components.control.connect import connect
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.laptop.home import gateway_port, home, plane_root
from penstock.components.control.laptop.plane import LaptopPlane


@pytest.mark.parametrize("asked", ["", "laptop"])
def test_the_laptop_is_the_default(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", tmp_path / "absent")
    monkeypatch.setenv("PENSTOCK_PLANE", asked)

    assert isinstance(connect(), LaptopPlane)


@pytest.mark.parametrize(("asked", "text"), [
    ("kubernetes", "no cluster is configured"), ("k8s", "laptop or kubernetes")])
def test_what_there_is_not_is_said(asked: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PLANE", asked)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))

    with pytest.raises(ControlError, match=text):
        connect()


def test_a_pod_means_its_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("token", "secret"), ("namespace", "team"), ("ca.crt", "")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", tmp_path / "token")
    kubeconfig = {"apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [
        {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}
    (tmp_path / "config").write_text(json.dumps(kubeconfig), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("PENSTOCK_PLANE", raising=False)
    monkeypatch.delenv("PENSTOCK_NAMESPACE", raising=False)

    plane = connect()

    assert isinstance(plane, KubernetesPlane)
    assert plane.namespace == "default"
    monkeypatch.setenv("PENSTOCK_NAMESPACE", "team")
    assert KubernetesPlane().namespace == "team"
    assert KubernetesPlane("other").namespace == "other"


def test_home_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    assert plane_root() == tmp_path / "laptop"
    monkeypatch.setenv("PENSTOCK_HOME", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert home() == tmp_path / "state" / "penstock"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert home() == Path.home() / ".local" / "state" / "penstock"


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "8480.0"])
def test_a_port_that_is_none_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_GATEWAY_PORT", port)

    with pytest.raises(ControlError, match=r"PENSTOCK_GATEWAY_PORT=.*e\.g\. 8480"):
        gateway_port()
