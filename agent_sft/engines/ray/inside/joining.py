"""Joining a cluster that runs, as a driver; nothing is ever started or stopped of it."""

import os
import socket

CONNECT_SECONDS = 5.0
JOIN_SECONDS = "20"
"""How long Ray looks for the part of the cluster that runs on this machine."""


class Refused(Exception):
    """The cluster cannot be used as things are: what is wrong, and what to do."""

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(what)


def join(address: str) -> None:
    """Connect this process to the cluster at HOST:PORT, or for `auto` to the one that runs on this machine."""
    # They are read when Ray is imported. What tasks print is in their own logs.
    os.environ["RAY_gcs_server_request_timeout_seconds"] = JOIN_SECONDS  # noqa: SIM112 (as Ray spells it)
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    found = _resolved(address)
    _check_answers(found)
    import ray

    try:
        ray.init(address=found, log_to_driver=False, logging_level="error", namespace="agent-sft")
    except RuntimeError as error:
        if "Version mismatch" in str(error):
            raise Refused(
                f"the cluster at {found} has another Ray or Python: {' '.join(str(error).split())}",
                "point AGENT_SFT_RAY_PYTHON to the Python that the cluster was started with",
            ) from error
        raise _unusable(found, error) from error
    except Exception as error:
        raise _unusable(found, error) from error


def _resolved(address: str) -> str:
    """Return HOST:PORT."""
    given = os.environ.get("RAY_ADDRESS") or "auto" if address == "auto" else address
    if "://" in given:
        raise Refused(
            f"{given} is the address of Ray's client server",
            "run this command on a machine of the cluster, and give the HOST:PORT that `ray start` said",
        )
    if given != "auto":
        return given
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except (ConnectionError, ValueError) as error:
        raise Refused(
            "no Ray cluster runs on this machine",
            "start one (`ray start --head`), join one (`ray start --address HOST:PORT`), or give --ray-address",
        ) from error


def _check_answers(address: str) -> None:
    """Look whether anybody answers there at all: Ray itself would ask for a minute."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Refused(f"'{address}' is no address of a Ray cluster", "give HOST:PORT, such as 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise Refused(
            f"nobody answers at {address}: {reason}",
            "look with `ray status` where the cluster is; --ray-address takes the HOST:PORT that `ray start` said",
        ) from error


def _unusable(address: str, error: Exception) -> Refused:
    return Refused(
        f"{address} cannot be used as a Ray cluster: {' '.join(str(error).split())[:500]}",
        "run this command on a machine that has joined the cluster (`ray start --address HOST:PORT`)",
    )
