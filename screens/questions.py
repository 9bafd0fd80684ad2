"""What sessions ask the person: a secret, a server's own prompts, trust in a command or in a server's key.

Nothing here says yes by itself: no default button, and a key pressed a moment too early does not count.
"""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, Static

from app.asking import ConsentQuestion, DeviceCode, HostKeyQuestion, Prompt, SecretAnswer
from app.text import clean_block, clean_line
from screens.dialogs import FRAME

SETTLE = 0.3
"""Seconds for which a question for trust takes no answer: a key that was meant for something else must not say yes."""
_WARNING = "& > Vertical { border: round $warning; }"


class SecretScreen(ModalScreen[SecretAnswer | None]):
    """Asks for a secret; nothing of it is shown. It is kept in memory only, unless the person says otherwise."""

    DEFAULT_CSS = "SecretScreen {" + FRAME + "& Checkbox { border: none; padding: 0; background: $surface; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "give up", id="secret.close", tooltip="Give no secret."),
        Binding("ctrl+s", "keep", "keep", id="secret.keep", tooltip="Keep it in the system's secret store, or not."),
    ]

    def __init__(self, what: str, *, may_keep: bool = False) -> None:
        super().__init__()
        self._what = what
        self._may_keep = may_keep

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical() as box:
            box.border_title = Content("Secret needed")
            yield Static(Content(clean_block(self._what)), markup=False)
            yield Input(password=True)
            if self._may_keep:
                yield Checkbox(Content("keep it in this system's secret store"))
                keys = "enter use it   ctrl+s keep it   esc give up"
            else:
                keys = "enter use it (kept in memory only)   esc give up"
            yield Static(keys, markup=False, classes="keys")

    def action_keep(self) -> None:
        """Keep it, or not."""
        if self._may_keep:
            self.query_one(Checkbox).toggle()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Hand it over."""
        event.stop()
        keep = self._may_keep and self.query_one(Checkbox).value
        self.dismiss(SecretAnswer(event.value, keep) if event.value else None)


class PromptsScreen(ModalScreen[tuple[str, ...] | None]):
    """A server's own questions at the login, labelled as its words; enter goes on to the next one."""

    DEFAULT_CSS = (
        "PromptsScreen {" + FRAME + "& .said { border: round $panel-lighten-2; padding: 0 1; } "
        "& VerticalScroll { height: auto; max-height: 16; } }"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "give up", id="prompts.close", tooltip="Answer nothing.")
    ]

    def __init__(self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]) -> None:
        super().__init__()
        self._server = clean_line(server)
        self._said = "\n".join(clean_block(text) for text in (title, instructions) if text)
        self._prompts = prompts

    def compose(self) -> ComposeResult:
        """Lay out: what the server says in a frame of its own, a field for each question."""
        with Vertical() as box:
            box.border_title = Content(f"{self._server} asks")
            with VerticalScroll():
                if self._said:
                    said = Static(Content(self._said), markup=False, classes="said")
                    said.border_title = Content("from server")
                    yield said
                for prompt in self._prompts:
                    yield Static(Content(clean_block(prompt.text)), markup=False)
                    yield Input(password=not prompt.echo)
            yield Static("enter next, then send   esc give up", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Start with the first question."""
        if self._prompts:
            self.query(Input).first().focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """To the next question, or hand all answers over."""
        event.stop()
        fields = list(self.query(Input))
        at = fields.index(event.input)
        if at + 1 < len(fields):
            fields[at + 1].focus()
        else:
            self.dismiss(tuple(field.value for field in fields))


class TrustScreen(ModalScreen[bool]):
    """Asks whether something may be trusted; only `y`, pressed after it has been there for a moment, says yes."""

    DEFAULT_CSS = "TrustScreen {" + FRAME + _WARNING + "}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,enter", "dismiss(False)", "no", id="trust.no", tooltip="Do not trust it."),
        Binding("y", "trust", "yes", id="trust.yes", tooltip="Trust it from now on."),
    ]

    def __init__(self, question: str, detail: str) -> None:
        super().__init__()
        self._question = question
        self._detail = detail
        self._settled = False

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical() as box:
            box.border_title = Content("Trust")
            yield Static(Content.styled(clean_block(self._question), "bold"), markup=False)
            yield Static(Content(clean_block(self._detail)), markup=False)
            yield Static("y trust it   esc do not", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Take no answer yet."""
        self.set_timer(SETTLE, self._settle)

    def _settle(self) -> None:
        self._settled = True

    def action_trust(self) -> None:
        """Yes."""
        if self._settled:
            self.dismiss(True)


class ConsentScreen(ModalScreen[bool]):
    """Asks whether something may be done; only `y`, pressed after it has been there for a moment, says yes."""

    DEFAULT_CSS = "ConsentScreen {" + FRAME + _WARNING + "}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,enter", "dismiss(False)", "no", id="consent.no", tooltip="Do not do it."),
        Binding("y", "agree", "yes", id="consent.yes", tooltip="Do it."),
    ]

    def __init__(self, question: ConsentQuestion) -> None:
        super().__init__()
        self._question = question
        self._settled = False

    def compose(self) -> ComposeResult:
        """Lay out: what, the facts, the two keys."""
        asked = self._question
        with Vertical() as box:
            box.border_title = Content("May it be done?")
            yield Static(Content.styled(f"{clean_line(asked.title)}.", "bold"), markup=False)
            yield Static(Content(clean_block("\n".join(asked.lines))), markup=False)
            yield Static(Content(f"y {clean_line(asked.yes)}   esc do not"), markup=False, classes="keys")

    def on_mount(self) -> None:
        """Take no answer yet."""
        self.set_timer(SETTLE, self._settle)

    def _settle(self) -> None:
        self._settled = True

    def action_agree(self) -> None:
        """Yes."""
        if self._settled:
            self.dismiss(True)


class HostKeyScreen(ModalScreen[bool]):
    """An unknown server's key: trusted only when the end of its fingerprint, or the word `trust`, is typed (S-02)."""

    DEFAULT_CSS = "HostKeyScreen {" + FRAME + _WARNING + "& .wrong { color: $text-error; } }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(False)", "no", id="host-key.no", tooltip="Do not trust this key.")
    ]

    def __init__(self, question: HostKeyQuestion) -> None:
        super().__init__()
        self._question = question
        self._settled = False

    def compose(self) -> ComposeResult:
        """Lay out: who shows which key, then a field."""
        asked = self._question
        facts = [("server", asked.host), ("reached at", asked.address), ("trusted as", asked.alias)]
        facts += [("key", asked.key_type), ("fingerprint", asked.fingerprint), ("for profile", asked.profile)]
        with Vertical() as box:
            box.border_title = Content("Unknown server")
            yield Static(Content.styled(f"{clean_line(asked.host)} is not known yet. It shows this key:", "bold"),
                         markup=False)  # fmt: skip
            lines = [Content.assemble((f"{name:<12} ", "$text-muted"), clean_line(value))
                     for name, value in facts if value]  # fmt: skip
            yield Static(Content("\n").join(lines), markup=False)
            if asked.notes:
                yield Static(Content("\n".join(clean_block(note) for note in asked.notes)), markup=False)
            end = clean_line(asked.proof)
            yield Static(Content(f"Compare it with what the server's owner tells you, then type its last four "
                                 f"characters ({end}) or the word trust."), markup=False)  # fmt: skip
            yield Input()
            yield Static("", markup=False, classes="wrong")
            yield Static("enter answer   esc do not trust it", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Take no answer yet."""
        self.set_timer(SETTLE, self._settle)

    def _settle(self) -> None:
        self._settled = True

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Yes only to the right words."""
        event.stop()
        if not self._settled:
            return
        if event.value.strip() in (self._question.proof, "trust"):
            self.dismiss(True)
        elif event.value.strip():
            self.query_one(".wrong", Static).update(Content("That is not it. Nothing was trusted."))
            event.input.value = ""


class DeviceCodeScreen(ModalScreen[None]):
    """Where to sign in and with which code; it counts down, and whoever shows it closes it when the sign-in has ended.

    The person types the code elsewhere, so nothing is asked here; escape gives up.
    """

    DEFAULT_CSS = (
        "DeviceCodeScreen {" + FRAME + "& .code { border: heavy $accent; padding: 1 3; margin: 1 0; width: auto; } "
        "& .url { margin-top: 1; } }"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "give up", id="device-code.close", tooltip="Do not sign in.")
    ]

    def __init__(self, code: DeviceCode) -> None:
        super().__init__()
        self._code = code

    def compose(self) -> ComposeResult:
        """Lay out."""
        with Vertical() as box:
            box.border_title = Content(f"Sign in: {clean_line(self._code.sign_in)}")
            if self._code.code:
                yield Static("Open this page in a browser, on any computer:", markup=False)
                yield Static(Content.styled(clean_line(self._code.url), "bold"), markup=False, classes="url")
                yield Static(Content.styled(clean_line(self._code.code), "bold"), markup=False, classes="code")
            else:
                yield Static(Content(clean_line(self._code.says)), markup=False)
            yield Static("", markup=False, classes="left")
            yield Static("esc give up", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Count down."""
        self._count()
        self.set_interval(1.0, self._count)

    def _count(self) -> None:
        left = max(int(self._code.expires_at - time.time()), 0)
        what = "Type the code there. " if self._code.code else ""
        text = f"{what}There are {left // 60}:{left % 60:02} left."
        self.query_one(".left", Static).update(Content(text if left else "The time is over."))
