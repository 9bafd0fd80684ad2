"""VMs behind local tunnels: what belongs to one of them is not given to another behind the same port (S-04)."""

from __future__ import annotations

from pathlib import Path

from app.cli.secrets import _one_name, secrets_of
from app.profiles.model import KubeconfigCluster, Profile, SshHop
from app.routes.direct import DirectDialer
from app.routes.ssh import SshDial
from app.secrets.secret import password_name
from tests.logins import Gate, MemoryStore, context, person
from tests.ports import unused_port

MACHINES = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/"


async def test_the_password_of_a_machine_is_not_sent_to_another_behind_the_same_port(tmp_path: Path) -> None:
    asker, store = person("of the first", "of the second"), MemoryStore()
    around = context(tmp_path, asker, store)
    known = tmp_path / "own_known_hosts"
    known.touch(mode=0o600)
    port = unused_port()  # nobody else's while there is no server, either
    for name, password in (("First", "of the first"), ("Second", "of the second")):
        async with Gate(password=password, port=port) as gate:
            with known.open("a") as file:
                file.write(f"{f'vm:{MACHINES}{name}'.lower()} {gate.host_key}\n")
            spec = SshHop((f"ops@127.0.0.1:{port}",), password=True, vm=MACHINES + name)
            for _ in range(2):
                async with SshDial(spec, around, profile="p", policy="ask").open(DirectDialer()):
                    pass
            assert gate.passwords == [password] * 2
    assert asker.asked == [f"Password of ops@127.0.0.1:{port}, {name}" for name in ("first", "second")]


def test_such_a_password_is_stored_under_the_machines_name() -> None:
    spec = SshHop(("ops@127.0.0.1:2222", "ops@jump01"), password=True, vm=MACHINES + "First")
    names = secrets_of(Profile("p", KubeconfigCluster(Path("k")), via=(spec,)))
    assert names == [f"password ops@[vm:{MACHINES.lower()}first]:22", "password ops@jump01:22"]
    assert names[0] == password_name("ops", f"vm:{MACHINES}First".lower())
    assert _one_name(names[0].split(" ")) == names[0], "as a hint has it"
