"""What Entra's error codes mean for the person who reads them (learn.microsoft.com, "Microsoft Entra authentication
and authorization error codes")."""

from __future__ import annotations

from app.errors import Recovery
from app.records import Record

_PERSON, _NEVER, _LATER = Recovery.NEEDS_PERSON, Recovery.PERMANENT, Recovery.TRANSIENT


class Answer(Record):
    """Title, code (after `JD-SIGN-IN-`), next step (SIGN_IN stands for the command) and what may help."""

    title: str
    code: str
    hint: str
    recovery: Recovery = _NEVER


_POLICY = (
    "Ask the tenant's administrator which devices and kinds of sign-in it allows; a managed Windows computer signs in "
    "by the kind broker."
)
_ANSWERS: tuple[tuple[tuple[int, ...], Answer], ...] = (
    ((50072, 50074, 50076, 50078, 50079, 50158, 50203, 500121, 16000, 50058),
     Answer("Azure wants a second proof of who you are", "MFA", "Sign in anew: SIGN_IN", _PERSON)),
    ((53000, 53001, 53002, 53003, 53004, 53009, 530001, 530002, 530003, 530004, 530034, 530035, 50097, 50005, 50131,
      530084),
     Answer("A Conditional Access policy refuses this sign-in", "CONDITIONAL-ACCESS", _POLICY)),
    ((50173, 70008, 70043, 70044, 700082, 700084, 700081, 50132, 50133, 50089, 700003, 50013),
     Answer("The sign-in has expired", "EXPIRED", "Sign in anew: SIGN_IN", _PERSON)),
    ((65001, 65004, 65005, 90094, 90008, 650052, 650056, 650057),
     Answer("The application lacks consent in this tenant", "CONSENT",
            "An administrator must consent to it; or use another client-id in the sign-in.")),
    ((700016, 700011, 7000112, 50105),
     Answer("The application is not known or not allowed in this tenant", "APP",
            "Check client-id and tenant of the sign-in.")),
    ((7000215, 7000216, 7000218),
     Answer("The client secret is wrong", "SECRET",
            "Store the secret's value, not its id: jumpdeck secrets set client-secret CLIENT_ID", _PERSON)),
    ((7000222,),
     Answer("The client secret has expired", "SECRET-EXPIRED",
            "Make a new one, then: jumpdeck secrets set client-secret CLIENT_ID", _PERSON)),
    ((700027, 700023, 700030, 50012, 7000214),
     Answer("The client certificate is not accepted", "CERTIFICATE",
            "Register it with the application, then: jumpdeck secrets set client-certificate CLIENT_ID", _PERSON)),
    ((700024,),
     Answer("The proof of identity is not valid at this time", "CLOCK", "Check this computer's clock.")),
    ((90002, 50128, 50059, 90019, 900021, 900023, 90013),
     Answer("The tenant is not found", "TENANT", "Check tenant and cloud of the profile.")),
    ((50020, 50034, 90072, 500212, 50177, 51004),
     Answer("The account does not belong to this tenant", "WRONG-TENANT",
            "Check tenant, or sign in with an account of that tenant: SIGN_IN", _PERSON)),
    ((500011, 500113, 500014, 50001, 650053, 70011),
     Answer("This tenant does not know what the token is for", "RESOURCE",
            "Check cloud and tenant of the profile.")),
    ((50053, 50055, 50056, 50057, 50126, 50144),
     Answer("The account or its password cannot be used", "ACCOUNT", "Ask the tenant's administrator.", _PERSON)),
    ((70019, 70020),
     Answer("Nobody signed in in time", "CODE-EXPIRED", "Get a new code: SIGN_IN", _PERSON)),
    ((70016, 70018),
     Answer("The code was not accepted", "DECLINED", "Get a new code: SIGN_IN", _PERSON)),
    ((90033, 90036, 90055, 90006, 50196, 50049, 90085, 50148, 90012),
     Answer("The sign-in server has a problem", "BUSY", "It is tried again.", _LATER)),
)  # fmt: skip


def answer_to(code: int) -> Answer | None:
    """What an AADSTS code means; None for one that is not known here."""
    return next((answer for codes, answer in _ANSWERS if code in codes), None)
