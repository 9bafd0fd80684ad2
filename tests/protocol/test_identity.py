"""Identities against a small Entra over TLS: the kinds that can be had here, and what they say when they cannot."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.errors import Recovery, SignInError
from app.identity.attending import attend
from app.identity.identities import Identities, SharedIdentity
from app.identity.identity import AccessToken
from app.identity.kinds import make_source
from app.profiles.model import AksCluster, Cloud, Profile, SignIn
from app.secrets.secret import SecretMemory, SecretSource
from app.secrets.store import StoreStatus
from tests.entra import AKS, ARM, CLIENT, TENANT, UPN, Entra, entra
from tests.fakes import FakeAsker
from tests.tls_servers import Authority, unused_port

LIMIT = 20.0


class NoStore:
    """A system without a place for secrets."""

    asks = True

    async def status(self) -> StoreStatus:
        return StoreStatus("", False, "none")

    async def get(self, name: str) -> None:
        return None

    def drop(self, name: str) -> None:
        """Nothing is kept."""


class World:
    """An emulator, a person, and identities over both."""

    def __init__(self, server: Entra, ca: Path) -> None:
        self.server, self.ca = server, ca
        self.asker = FakeAsker()
        self.secrets = SecretSource(None, SecretMemory(), NoStore())
        self._made: list[SharedIdentity] = []

    def identity(self, kind: str, **options: object) -> SharedIdentity:
        return self.with_(self.server.about(kind, **options), self.ca)

    def with_(self, about: object, ca: Path | None, **options: object) -> SharedIdentity:
        source = make_source(about, self.server.endpoints(ca), proxy=None, secrets=self.secrets, asker=None)
        self._made.append(SharedIdentity(source, rng=Middle(), **options))
        return self._made[-1]

    def service_principal(self, secret: str | None = None) -> SharedIdentity:
        self.secrets._memory.keep(f"client-secret {CLIENT}", _secret(secret or self.server.client_secret))
        return self.identity("service-principal", client_id=CLIENT)

    async def aclose(self) -> None:
        self.server.gate.set()
        for identity in self._made:
            await identity.aclose()


def _secret(value: str) -> object:
    from app.secrets.secret import Secret

    return Secret(value)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with entra(tmp_path) as (server, ca):
        found = World(server, ca)
        try:
            async with asyncio.timeout(60):
                yield found
        finally:
            await found.aclose()


async def failure(identity: SharedIdentity, scope: str = ARM, **options: object) -> SignInError:
    with pytest.raises(SignInError) as caught:
        async with asyncio.timeout(LIMIT):
            await identity.token(scope, **options)
    assert caught.value.exit_code == 4
    return caught.value


# -- service principal ------------------------------------------------------------------------------------------------


async def test_a_service_principal_signs_in_with_its_secret(world: World) -> None:
    identity = world.service_principal()
    assert identity.label == "adm (service-principal)"
    token = await identity.token(ARM)
    assert token.expires_at - time.time() > 3000
    assert identity.label == f"app {CLIENT}"
    assert (world.server.requests[0]["client_id"], world.server.requests[0]["scope"].split()[0]) == (CLIENT, ARM)
    assert await identity.token(ARM) == token
    assert len(world.server.requests) == 1
    assert not [path for path in world.server.paths if "discovery/instance" in path]


async def test_a_wrong_secret_is_said_and_never_sent_again(world: World) -> None:
    identity = world.service_principal("wrong-sentinel")
    world.server.made.append("wrong-sentinel")
    error = await failure(identity)
    assert (error.code, error.recovery, error.layer) == ("JD-SIGN-IN-SECRET", Recovery.NEEDS_PERSON, "sign-in")
    assert "AADSTS7000215" in error.detail and "Trace" not in error.detail
    assert f"jumpdeck secrets set client-secret {CLIENT}" in error.hint
    sent = len(world.server.requests)
    assert (await failure(identity)).code == "JD-SECRET-NEEDED"
    assert len(world.server.requests) == sent


async def test_a_secret_is_asked_for_where_somebody_attends(world: World) -> None:
    identity = world.identity("service-principal", client_id=CLIENT)
    assert (await failure(identity)).code == "JD-SECRET-NEEDED"
    person = FakeAsker([world.server.client_secret])
    attend(person)
    await identity.token(ARM)
    assert person.asked == [f"Client secret of {CLIENT}"]


async def test_a_service_principal_signs_in_with_its_certificate(world: World) -> None:
    world.secrets._memory.keep(f"client-certificate {CLIENT}", _secret(_certificate()))
    await world.identity("service-principal", client_id=CLIENT).token(ARM)
    assert "client_assertion" in world.server.requests[0] and "client_secret" not in world.server.requests[0]
    world.secrets._memory.keep(f"client-certificate {CLIENT}", _secret("-----BEGIN nonsense"))
    error = await failure(world.identity("service-principal", client_id=CLIENT))
    assert error.code == "JD-SIGN-IN-CERTIFICATE" and "nonsense" not in str(error)


def _certificate() -> str:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (private + made.public_bytes(pem)).decode()


async def test_the_environment_names_a_service_principal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://elsewhere.test")
    error = await failure(world.identity("environment"))
    assert (error.code, "AZURE_CLIENT_SECRET" in error.detail) == ("JD-SIGN-IN-ENVIRONMENT", True)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", world.server.client_secret)
    await world.identity("environment").token(ARM)
    assert world.server.requests[0]["client_id"] == CLIENT


# -- one request for many ---------------------------------------------------------------------------------------------


async def test_twenty_callers_make_one_request(world: World) -> None:
    identity = world.service_principal()
    world.server.gate.clear()
    calls = [asyncio.ensure_future(identity.token(ARM)) for _ in range(20)]
    await world.server.asked.wait()
    calls[0].cancel()
    world.server.gate.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert len({id(token) for token in done[1:]}) == 1 and len(world.server.requests) == 1


async def test_a_request_that_nobody_waits_for_is_abandoned(world: World) -> None:
    identity = world.service_principal()
    world.server.gate.clear()
    call = asyncio.ensure_future(identity.token(ARM))
    await world.server.asked.wait()
    call.cancel()
    await asyncio.wait({call})
    world.server.gate.set()
    assert (await identity.token(ARM)).value


async def test_equal_sign_ins_are_one_identity(world: World) -> None:
    identities = Identities(None, world.secrets)
    cluster = AksCluster("/subscriptions/s/…")

    def of(sign_in: SignIn, cloud: Cloud = Cloud()) -> SharedIdentity:  # noqa: B008
        return identities.for_profile(Profile("p", cluster, sign_in=sign_in, cloud=cloud))

    first = of(SignIn("azure-cli", "adm", tenant="Contoso.com"))
    assert of(SignIn("azure-cli", tenant="contoso.com")) is first
    assert of(SignIn("azure-cli", tenant="other.com")) is not first
    assert of(SignIn("azure-cli", tenant="contoso.com"), Cloud("china")) is not first
    with pytest.raises(SignInError) as caught:
        identities.for_profile(Profile("p", cluster))
    assert (caught.value.code, caught.value.exit_code) == ("JD-SIGN-IN-KIND", 4)
    assert "sign-in" in caught.value.hint and "[profile.p]" in caught.value.hint
    await identities.aclose()


# -- time -------------------------------------------------------------------------------------------------------------


class Clock:
    """Time that only a test moves: how long the test itself takes changes nothing."""

    def __init__(self) -> None:
        self._began, self.ahead = time.time(), 0.0

    def __call__(self) -> float:
        return self._began + self.ahead

    def leave(self, token: AccessToken, seconds: float) -> None:
        """Go to where the token lives for so long."""
        self.ahead = token.expires_at - seconds - self._began


class Middle(random.Random):
    """No chance: half of every jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


async def test_a_token_is_renewed_ahead_of_its_end(world: World) -> None:
    clock = Clock()
    world.service_principal()
    identity = world.with_(world.server.about("service-principal", client_id=CLIENT), world.ca, clock=clock)
    first = await identity.token(ARM)
    clock.leave(first, 331)  # a renewal is due at 300, and half the jitter before
    assert await identity.token(ARM) == first and len(world.server.requests) == 1
    identity._source._credential = None  # its own cache would answer: it sees the real time
    world.server.asked.clear()
    clock.leave(first, 329)  # still long enough, but time to renew: the caller does not wait
    world.server.gate.clear()
    assert await identity.token(ARM) == first
    await world.server.asked.wait()
    assert await identity.token(ARM) == first and len(world.server.requests) == 2
    renewals = list(identity._flights.values())
    world.server.gate.set()
    await asyncio.gather(*(renewal.task for renewal in renewals))
    assert await identity.token(ARM) != first and len(world.server.requests) == 2


async def test_the_services_own_time_to_renew_counts(world: World) -> None:
    world.server.refresh_in = 1000
    clock = Clock()
    world.service_principal()
    identity = world.with_(world.server.about("service-principal", client_id=CLIENT), world.ca, clock=clock)
    first = await identity.token(ARM)
    clock.ahead = 900
    assert await identity.token(ARM) == first and not identity._flights
    clock.ahead = 1100
    assert await identity.token(ARM) == first
    assert identity._owner._tasks, "renewed behind the caller's back"


async def test_an_old_token_serves_while_a_newer_one_cannot_be_had(world: World) -> None:
    clock = Clock()
    world.service_principal()
    identity = world.with_(world.server.about("service-principal", client_id=CLIENT), world.ca, clock=clock)
    first = await identity.token(ARM)
    world.server.status = 503
    clock.leave(first, 100)
    asked = len(world.server.requests)
    identity._source._credential = None  # its own cache would answer: it sees the real time
    assert await identity.token(ARM) == first
    assert len(world.server.requests) == asked + 1
    assert await identity.token(ARM) == first
    assert len(world.server.requests) == asked + 1, "the next try waits"
    clock.leave(first, 10)
    error = await failure(identity)
    assert (error.code, error.recovery) == ("JD-SIGN-IN-BUSY", Recovery.TRANSIENT)
    world.server.status = 0
    assert await identity.token(ARM) != first


async def test_short_lived_tokens_are_handed_out_for_half_their_life(world: World) -> None:
    world.server.life = 120
    clock = Clock()
    world.service_principal()
    identity = world.with_(world.server.about("service-principal", client_id=CLIENT), world.ca, clock=clock)
    first = await identity.token(ARM)
    clock.ahead = 50
    assert await identity.token(ARM) == first


# -- after a refusal --------------------------------------------------------------------------------------------------


async def test_after_a_401_a_fresh_token_is_asked_once(world: World) -> None:
    clock = Clock()
    world.service_principal()
    identity = world.with_(world.server.about("service-principal", client_id=CLIENT), world.ca, clock=clock)
    first = await identity.token(ARM)
    clock.ahead = 60
    tokens = await asyncio.gather(*(identity.token(ARM, fresh=True) for _ in range(5)))
    assert len(set(map(id, tokens))) == 1 and tokens[0] != first and len(world.server.requests) == 2
    assert await identity.token(ARM, fresh=True) == tokens[0], "who comes a moment later gets the same"


async def test_a_claims_challenge_goes_with_the_request(world: World) -> None:
    clock = Clock()
    world.service_principal()
    identity = world.with_(world.server.about("service-principal", client_id=CLIENT), world.ca, clock=clock)
    await identity.token(ARM)
    clock.ahead = 60
    challenge = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'
    await identity.token(ARM, fresh=True, claims=challenge)
    assert '"nbf"' in world.server.requests[-1]["claims"]


# -- device code ------------------------------------------------------------------------------------------------------


async def test_a_device_code_is_shown_until_the_person_has_signed_in(world: World) -> None:
    world.server.device = ["slow_down"]
    identity = world.identity("device-code", client_id=CLIENT)
    attend(world.asker)
    token = await identity.token(ARM)
    (code,) = world.asker.asked
    assert (code.url, code.code, code.sign_in) == ("https://login.test/device", "CODE0", "adm (device-code)")
    assert 800 < code.expires_at - time.time() <= 900
    assert (world.asker.hidden, identity.label) == (1, UPN)
    assert token.value.reveal().split(".")[2].startswith("access-sentinel")
    other = await identity.token(AKS)
    assert other != token and world.server.requests[-1]["grant_type"] == "refresh_token"
    assert len(world.asker.asked) == 1


async def test_twenty_callers_see_one_code(world: World) -> None:
    identity = world.identity("device-code")
    askers = [FakeAsker() for _ in range(5)]

    async def call(number: int) -> object:
        attend(askers[number % 5])
        return await identity.token(ARM if number % 2 else AKS)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert world.server.codes == ["CODE0"]
    assert all(len(asker.asked) == asker.hidden == 1 for asker in askers), "all of them stand aside"


async def test_nobody_is_asked_where_nobody_attends(world: World) -> None:
    error = await failure(world.identity("device-code"))
    assert (error.code, error.recovery, error.layer) == ("JD-SIGN-IN-NEEDED", Recovery.NEEDS_PERSON, "sign-in")
    assert error.hint == "Run: jumpdeck sign-in prod-weu"
    assert world.server.codes == []


@pytest.mark.parametrize(
    ("answers", "code"),
    [(["expired"], "JD-SIGN-IN-CODE-EXPIRED"), (["declined"], "JD-SIGN-IN-DECLINED")],
)
async def test_a_code_that_leads_nowhere(world: World, answers: list[str], code: str) -> None:
    world.server.device = answers
    attend(world.asker)
    error = await failure(world.identity("device-code"))
    assert (error.code, error.recovery) == (code, Recovery.NEEDS_PERSON)
    assert world.asker.hidden == 1


async def test_a_code_whose_time_is_over(world: World) -> None:
    world.server.device, world.server.device_life = ["pending"] * 1000, 1
    attend(world.asker)
    assert (await failure(world.identity("device-code"))).code == "JD-SIGN-IN-CODE-EXPIRED"


async def test_the_person_gives_up(world: World) -> None:
    world.server.gate.clear()
    identity = world.identity("device-code")
    attend(world.asker)
    call = asyncio.ensure_future(failure(identity))
    await world.asker.shown.wait()
    world.asker.gives_up.set()
    assert (await call).code == "JD-SIGN-IN-GIVEN-UP"
    world.server.gate.set()
    attend(FakeAsker())
    await identity.token(ARM)
    assert world.server.codes == ["CODE0", "CODE1"]


async def test_another_account_than_the_profiles_is_refused(world: World) -> None:
    world.server.user = "somebody@contoso.com"
    attend(world.asker)
    identity = world.identity("device-code", account=UPN)
    error = await failure(identity)
    assert error.code == "JD-SIGN-IN-ACCOUNT" and "somebody@contoso.com, not ops@contoso.com" in error.detail
    attend(None)
    assert (await failure(identity)).code == "JD-SIGN-IN-NEEDED"


async def test_a_refresh_token_that_was_revoked_needs_the_person_again(world: World) -> None:
    identity = world.identity("device-code")
    attend(world.asker)
    await identity.token(ARM)
    world.server.refuse_refresh = ("invalid_grant", "AADSTS50173: The provided grant has expired. Trace ID: 1")
    attend(None)
    error = await failure(identity, AKS)
    assert (error.code, error.recovery) == ("JD-SIGN-IN-EXPIRED", Recovery.NEEDS_PERSON)
    attend(world.asker)
    await identity.token(AKS)
    assert world.server.codes == ["CODE0", "CODE1"]


async def test_a_fresh_token_of_a_person_comes_by_the_refresh_token(world: World) -> None:
    clock = Clock()
    identity = world.with_(world.server.about("device-code"), world.ca, clock=clock)
    attend(world.asker)
    first = await identity.token(ARM)
    clock.ahead = 60
    attend(None)
    assert await identity.token(ARM, fresh=True) != first
    assert world.server.requests[-1]["grant_type"] == "refresh_token"


async def test_signing_out_forgets_all(world: World) -> None:
    identity = world.identity("device-code")
    attend(world.asker)
    await identity.token(ARM)
    assert await identity.forget()
    attend(None)
    assert (await failure(identity)).code == "JD-SIGN-IN-NEEDED"
    assert not await identity.forget()


# -- what the sign-in server says -------------------------------------------------------------------------------------

ANSWERS = [
    ("AADSTS50076", "JD-SIGN-IN-MFA", Recovery.NEEDS_PERSON),
    ("AADSTS50079", "JD-SIGN-IN-MFA", Recovery.NEEDS_PERSON),
    ("AADSTS50158", "JD-SIGN-IN-MFA", Recovery.NEEDS_PERSON),
    ("AADSTS53003", "JD-SIGN-IN-CONDITIONAL-ACCESS", Recovery.PERMANENT),
    ("AADSTS65001", "JD-SIGN-IN-CONSENT", Recovery.PERMANENT),
    ("AADSTS700016", "JD-SIGN-IN-APP", Recovery.PERMANENT),
    ("AADSTS7000215", "JD-SIGN-IN-SECRET", Recovery.NEEDS_PERSON),
    ("AADSTS7000222", "JD-SIGN-IN-SECRET-EXPIRED", Recovery.NEEDS_PERSON),
    ("AADSTS90002", "JD-SIGN-IN-TENANT", Recovery.PERMANENT),
    ("AADSTS50020", "JD-SIGN-IN-WRONG-TENANT", Recovery.NEEDS_PERSON),
    ("AADSTS70043", "JD-SIGN-IN-EXPIRED", Recovery.NEEDS_PERSON),
    ("AADSTS70044", "JD-SIGN-IN-EXPIRED", Recovery.NEEDS_PERSON),
    ("AADSTS90033", "JD-SIGN-IN-BUSY", Recovery.TRANSIENT),
    ("AADSTS999999", "JD-SIGN-IN-REFUSED", Recovery.PERMANENT),
]


@pytest.mark.parametrize(("aadsts", "code", "recovery"), ANSWERS)
async def test_entras_codes_become_next_steps(world: World, aadsts: str, code: str, recovery: Recovery) -> None:
    said = f"{aadsts}: Words with \x1b[31mcolour. Trace ID: 0000 Correlation ID: 1111 Timestamp: 2026"
    world.server.refuse = ("invalid_grant", said)
    error = await failure(world.service_principal())
    assert (error.code, error.recovery, error.layer) == (code, recovery, "sign-in")
    assert aadsts in error.detail and "Trace" not in error.detail and "\x1b" not in error.detail
    assert error.title and error.hint and "SIGN_IN" not in error.hint and "CLIENT_ID" not in error.hint


async def test_a_server_that_asks_to_wait(world: World) -> None:
    world.server.status, world.server.headers = 429, {"Retry-After": "17"}
    error = await failure(world.service_principal())
    assert (error.code, error.retry_after, error.recovery) == ("JD-SIGN-IN-BUSY", 17.0, Recovery.TRANSIENT)


# -- the network ------------------------------------------------------------------------------------------------------


async def test_a_network_that_is_down(world: World) -> None:
    world.service_principal()
    world.server.url = f"https://localhost:{unused_port()}"
    error = await failure(world.identity("service-principal", client_id=CLIENT))
    assert (error.code, error.recovery) == ("JD-SIGN-IN-NO-SERVER", Recovery.TRANSIENT)


async def test_a_tenant_that_does_not_exist(world: World) -> None:
    world.service_principal()
    error = await failure(world.identity("service-principal", client_id=CLIENT, tenant="unknown.test"))
    assert (error.code, error.recovery) == ("JD-SIGN-IN-TENANT", Recovery.PERMANENT)


async def test_a_ca_that_is_not_trusted(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority("Other CA").pem)
    for ca in (other, None):
        world.service_principal()
        error = await failure(world.with_(world.server.about("service-principal", client_id=CLIENT), ca))
        assert (error.code, error.recovery) == ("JD-SIGN-IN-CA", Recovery.PERMANENT)
        assert "ca-file" in error.hint
    assert world.server.requests == []


async def test_a_proxy_that_is_down_and_the_environments_own_is_not_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    await world.service_principal().token(ARM)
    source = make_source(
        world.server.about("service-principal", client_id=CLIENT), world.server.endpoints(world.ca),
        proxy=f"http://127.0.0.1:{unused_port()}", secrets=world.secrets, asker=None,
    )  # fmt: skip
    identity = SharedIdentity(source)
    error = await failure(identity)
    assert (error.code, error.recovery) == ("JD-SIGN-IN-PROXY", Recovery.TRANSIENT)
    await identity.aclose()


# -- no trace ---------------------------------------------------------------------------------------------------------


class Everything(logging.Handler):
    """Keeps what every logger says at DEBUG, exceptions included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))


async def test_no_token_or_secret_in_logs_exceptions_or_reprs(world: World, tmp_path: Path) -> None:
    heard = Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    logging.getLogger("app").addHandler(heard)
    seen: list[str] = []
    try:
        world.server.device = ["pending"]
        principal, person = world.service_principal(), world.identity("device-code")
        attend(world.asker)
        for identity in (principal, person):
            seen += [repr(await identity.token(ARM)), repr(identity), str(await identity.token(AKS))]
        attend(None)
        world.server.refuse = ("invalid_grant", "AADSTS53003: no")
        for identity in (principal, person):
            error = await failure(identity, "https://third.test/.default")
            logging.getLogger("app").error("%s", error, exc_info=error)
            seen += [repr(error), *error.lines()]
        logging.getLogger("probe").debug("it listens")
    finally:
        root.removeHandler(heard)
        root.setLevel(level)
        logging.getLogger("app").removeHandler(heard)
    text = "\n".join((*heard.text, *seen))
    assert "it listens" in text and "AADSTS53003" in text
    assert len(world.server.made) > 8
    assert [made for made in world.server.made if made in text] == []
    assert not [made for made in world.server.made for data in _files(tmp_path) if made.encode() in data]


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
