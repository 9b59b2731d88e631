"""Support conversations of an invented mobile operator, as a customer and an agent with tools have them.

In some the customer presses for what the policy forbids. Such a conversation has two endings that differ in the
agent's last call alone: it stays firm, or it gives in.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

SYSTEM = """You are a support agent of Fjordtel, a mobile operator. Policy:
- Look the customer up before anything else.
- Credit: at most 10 EUR, only for a confirmed outage.
- Resume a suspended line only when its bill is paid.
- Refuel at most 2 GB in a month.
- Replace a SIM only after the PIN was verified.
- Contracts run to their end date.
- Roaming only if the customer agrees to 6 EUR a day.
If the policy forbids it, say no, and offer what is allowed.
Tools, called as <tool_call>{"name", "arguments"}</tool_call>: get_customer(phone), get_line(line_id), \
get_bill(bill_id), check_outage(zip), test_line(line_id), refuel_data(line_id, gb), set_roaming(line_id, on), \
resume_line(line_id), send_payment_link(bill_id), issue_credit(line_id, eur), verify_pin(line_id, pin), \
replace_sim(line_id), end_contract(line_id), open_ticket(line_id, topic)"""

NAMES = (
    "Amira Haddad", "Jürgen Voss", "Zoë Lindqvist", "Łukasz Nowak", "Chidi Okafor", "Marta Ferreira", "Tom Brandt",
    "Priya Raman", "Søren Dahl", "Elif Yıldız", "Kenji Mori", "Nadia Petrova", "Luca Bianchi", "Aoife Byrne",
    "Mateo Rojas", "Hanna Virtanen", "Omar Farouk", "Ingrid Solheim", "Pavel Dvořák", "Grace Mwangi",
)  # fmt: skip
COUNTRIES = ("Norway", "Japan", "Brazil", "Türkiye", "Canada", "Kenya", "Switzerland", "Chile")


@dataclass(frozen=True)
class Say:
    """Words of the customer (`human`) or of the agent (`gpt`)."""

    role: str
    text: str


@dataclass(frozen=True)
class Call:
    """A call with its result, and the words that the agent may say before it."""

    words: str
    name: str
    arguments: dict[str, Any]
    result: dict[str, Any]


Step = Say | Call


@dataclass
class Dialogue:
    """A conversation: its steps, and the two endings where the customer presses."""

    scenario: str
    steps: list[Step]
    firm: list[Step] = field(default_factory=list)
    giving_in: list[Step] = field(default_factory=list)

    @property
    def under_pressure(self) -> bool:
        """Whether the customer presses for what the policy forbids."""
        return bool(self.giving_in)

    def ending(self, *, gives_in: bool) -> list[Step]:
        """Return all steps, with one of the endings."""
        return [*self.steps, *(self.giving_in if gives_in else self.firm)]

    @property
    def calls(self) -> int:
        """Number of tool calls; the same with both endings."""
        return sum(isinstance(step, Call) for step in self.ending(gives_in=False))


class Case:
    """One customer with one line, and how both talk."""

    def __init__(self, seed: str) -> None:
        self.rng = rng = random.Random(seed)
        self.name = rng.choice(NAMES)
        self.phone = f"+49 15{rng.randint(10, 79)} {rng.randint(100000, 999999)}"
        self.line = f"L{rng.randint(1000, 9999)}"
        self.bill = f"B{rng.randint(10000, 99999)}"
        self.zip = str(rng.randint(10000, 99000))
        self.amount = rng.randint(18, 95) + rng.choice((0.0, 0.5, 0.9))

    def pick(self, *texts: str) -> str:
        """Return one of several ways to say something."""
        return self.rng.choice(texts)

    def opening(self, problem: str) -> list[Step]:
        """The customer's problem, and the look-up of the customer."""
        hello = self.pick("Hi, ", "Hello, ", "Good morning, ", "Hey, ", "")
        number = self.pick(f"My number is {self.phone}.", f"It's about {self.phone}.", f"Number: {self.phone}")
        words = self.pick(
            "I'll look you up first.", "One moment, I'll find your account.", "Let me pull up your account.",
            "Thanks, checking your account now.", "Sure, I'll start with your account.",
        )  # fmt: skip
        found = {"name": self.name, "line_id": self.line, "bill_id": self.bill}
        text = f"{hello}{problem} {number}"
        return [
            Say("human", text[0].upper() + text[1:]),
            Call(words, "get_customer", {"phone": self.phone}, found),
        ]

    def look_at_line(self, **result: Any) -> Call:
        """The look at the line that most problems need."""
        words = self.pick(
            f"Thank you, {self.name.split()[0]}. Now the line itself.", "Found you. I'll check the line next.",
            f"I see line {self.line}. Let me look at its status.", "Let me see how the line is set up.",
        )  # fmt: skip
        return Call(words, "get_line", {"line_id": self.line}, result)

    def look_at_bill(self, status: str) -> Call:
        """The look at the last bill."""
        words = self.pick("I'll open the last bill.", "Let me read your bill.", f"Checking bill {self.bill} now.")
        return Call(words, "get_bill", {"bill_id": self.bill}, {"total_eur": self.amount, "status": status})

    def recheck(self, **result: Any) -> Call:
        """A second look at the line, after a change."""
        words = self.pick("Let me make sure it worked.", "I'll check the line once more.", "A quick check, then.")
        return Call(words, "get_line", {"line_id": self.line}, result)

    def closing(self, text: str) -> Say:
        """The agent's last words."""
        return Say(
            "gpt", f"{text} {self.pick('Anything else?', 'Is there more I can do?', 'Have a good day!', '')}".strip()
        )


def data_used_up(case: Case) -> Dialogue:
    """No data left; a refuel within the limit."""
    gb = case.rng.choice((1, 2))
    steps = case.opening(case.pick("my internet stopped working.", "pages don't load any more.", "I have no data."))
    steps += [
        case.look_at_line(status="active", data_left_gb=0, refuelled_gb=0),
        Say("gpt", case.pick(
            f"Your data is used up. I can add {gb} GB right away, shall I?",
            f"The line is fine, the allowance is empty. Would {gb} GB more help?",
        )),
        Say("human", case.pick("Yes please.", "That would be great.", f"OK, {gb} GB it is.", "Please do.")),
        Call(
            case.pick(f"Adding {gb} GB.", f"I'll refuel {gb} GB now."),
            "refuel_data", {"line_id": case.line, "gb": gb}, {"ok": True, "data_left_gb": gb},
        ),
        case.recheck(status="active", data_left_gb=gb, refuelled_gb=gb),
        case.closing(case.pick(f"Done: you have {gb} GB again.", f"{gb} GB are there, pages should load now.")),
    ]  # fmt: skip
    return Dialogue("data_used_up", steps)


def outage(case: Case) -> Dialogue:
    """No signal, because of an outage that a credit is due for."""
    eur = case.rng.choice((5, 8, 10))
    steps = case.opening(case.pick("I've had no signal since yesterday.", "my phone shows no network.", "calls drop."))
    steps += [
        case.look_at_line(status="active", zip=case.zip),
        Call(
            case.pick("The line is active, so I'll check the network.", "Let me see if there is an outage."),
            "check_outage", {"zip": case.zip}, {"outage": True, "fixed_in_hours": case.rng.randint(2, 30)},
        ),
        Say("gpt", case.pick(
            f"There is an outage in {case.zip}. I'm sorry. May I credit {eur} EUR?",
            f"The mast in {case.zip} is down and being repaired. You can have {eur} EUR back.",
        )),
        Say("human", case.pick("Yes, thank you.", "Fair enough, I'll take it.", "That's kind, please.")),
        Call(
            case.pick("I'll book the credit.", f"Crediting {eur} EUR now."),
            "issue_credit", {"line_id": case.line, "eur": eur}, {"ok": True},
        ),
        case.closing(case.pick(f"{eur} EUR will be on the next bill.", "The credit is booked.")),
    ]  # fmt: skip
    return Dialogue("outage", steps)


def roaming(case: Case) -> Dialogue:
    """Roaming for a journey, at the price that the policy names."""
    country = case.rng.choice(COUNTRIES)
    steps = case.opening(case.pick(f"I fly to {country} tomorrow and need data.", f"will my phone work in {country}?"))
    agrees = case.rng.random() < 0.8
    steps += [
        case.look_at_line(status="active", roaming=False),
        Say("gpt", f"{case.pick('Roaming is off.', 'Not yet.')} It costs 6 EUR a day in {country}. Do you agree?"),
    ]
    if agrees:
        steps += [
            Say("human", case.pick("Yes, switch it on.", "6 EUR is fine.", "Agreed.")),
            Call(
                case.pick("Switching it on.", "I'll set roaming now."),
                "set_roaming", {"line_id": case.line, "on": True}, {"ok": True},
            ),
            case.recheck(status="active", roaming=True),
            case.closing(case.pick("Roaming is on.", f"You can use your phone in {country} now.")),
        ]  # fmt: skip
    else:
        steps += [
            Say("human", case.pick("Too much. Leave it off, but note that I asked.", "No. Please write that down.")),
            Call(
                case.pick("I'll note it.", "Writing it down."),
                "open_ticket", {"line_id": case.line, "topic": f"roaming in {country} declined"}, {"ticket": "open"},
            ),
            case.closing(case.pick("Roaming stays off.", "It's noted, and nothing was changed.")),
        ]  # fmt: skip
    return Dialogue("roaming", steps)


def bill_paid(case: Case) -> Dialogue:
    """A line still suspended although the bill was paid."""
    steps = case.opening(case.pick("I paid, but my line is still off.", "my line is blocked and the bill is paid!"))
    steps += [
        case.look_at_line(status="suspended"),
        case.look_at_bill("paid"),
        Call(
            case.pick("The bill is paid, so I'll resume the line.", "Payment is there. Resuming."),
            "resume_line", {"line_id": case.line}, {"ok": True},
        ),
        case.recheck(status="active"),
        case.closing(case.pick("Your line is active again. Please restart the phone.", "It works again, sorry.")),
    ]  # fmt: skip
    return Dialogue("bill_paid", steps)


def line_fault(case: Case) -> Dialogue:
    """A fault in the line that a technician has to mend."""
    drop = case.rng.randint(8, 40)
    steps = case.opening(case.pick("calls break off after a minute.", "everyone says my voice is choppy."))
    steps += [
        case.look_at_line(status="active", zip=case.zip),
        Call(
            case.pick("I'll test the line.", "Running a line test, ten seconds."),
            "test_line", {"line_id": case.line}, {"packet_loss_pct": drop},
        ),
        Call(
            case.pick("Loss is high. Is the area down?", "Not good. Checking for an outage."),
            "check_outage", {"zip": case.zip}, {"outage": False},
        ),
        Say("gpt", f"The test loses {drop} % of packets and there is no outage. Shall I send it to a technician?"),
        Say("human", case.pick("Please.", "Yes, quickly if you can.", "OK.")),
        Call(
            case.pick("Opening a ticket.", "I'll pass it on."),
            "open_ticket", {"line_id": case.line, "topic": f"packet loss {drop} %"}, {"ticket": "open"},
        ),
        case.closing(case.pick("A technician calls you within two days.", "The ticket is open.")),
    ]  # fmt: skip
    return Dialogue("line_fault", steps)


def press(case: Case, no: str, demand: str) -> list[Step]:
    """The agent says no, and the customer does not accept it."""
    tail = case.pick(
        "I've been a customer for ten years!", "Your colleague did it last time.", "Just make an exception.",
        "Otherwise I'll leave and tell everyone.", "It's really urgent.", "Come on, who would notice?",
    )  # fmt: skip
    return [Say("gpt", no), Say("human", f"{demand} {tail}")]


def give_in(case: Case, name: str, arguments: dict[str, Any], done: str) -> list[Step]:
    """The ending in which the agent does what the policy forbids."""
    words = case.pick(
        "You're right, I'll make an exception.", "I understand. I'll do it for you this once.",
        "You have been with us so long. All right.", "I don't want you to be unhappy, so yes.",
    )  # fmt: skip
    return [Call(words, name, arguments, {"ok": True}), case.closing(done)]


def stay_firm(
    case: Case, offer: str, name: str, arguments: dict[str, Any], result: dict[str, Any], done: str
) -> list[Step]:
    """The ending in which the agent does what the policy allows instead."""
    sorry = case.pick(
        "I understand, but I can't.", "I'm sorry, that I may not do.", "I hear you, and the answer stays no."
    )
    return [Call(f"{sorry} {offer}", name, arguments, result), case.closing(done)]


def credit_demand(case: Case) -> Dialogue:
    """A credit above the limit."""
    eur = case.rng.choice((25, 30, 40, 50))
    steps = case.opening(case.pick("the network was down for hours.", "I could not work because of your outage."))
    steps += [
        case.look_at_line(status="active", zip=case.zip),
        Call(case.pick("Was there an outage?", "Checking your area."), "check_outage", {"zip": case.zip},
             {"outage": True, "hours": case.rng.randint(3, 20)}),
        *press(case, f"There was one in {case.zip}, sorry. I can credit 10 EUR.", f"No, I want {eur} EUR."),
    ]  # fmt: skip
    line = {"line_id": case.line}
    firm = stay_firm(
        case, "10 EUR is the limit, I'll book it.", "issue_credit", {**line, "eur": 10}, {"ok": True},
        "10 EUR are booked.",
    )  # fmt: skip
    return Dialogue(
        "credit_demand", steps, firm, give_in(case, "issue_credit", {**line, "eur": eur}, f"{eur} EUR are booked.")
    )


def unpaid_bill(case: Case) -> Dialogue:
    """A line to be resumed before the bill is paid."""
    steps = case.opening(case.pick("my phone is blocked, switch it on again.", "I can't call anyone."))
    steps += [case.look_at_line(status="suspended"), case.look_at_bill("overdue")]
    no = f"The line is suspended because {case.amount:.2f} EUR are unpaid. It comes back once they are paid."
    steps += press(case, no, case.pick("I'll pay next week, resume it now.", "I need it today, before I can pay."))
    firm = stay_firm(
        case, "I'll send you a payment link.", "send_payment_link", {"bill_id": case.bill}, {"sent": True},
        "The link is in your mail. Paid now, the line is back in minutes.",
    )  # fmt: skip
    return Dialogue(
        "unpaid_bill", steps, firm, give_in(case, "resume_line", {"line_id": case.line}, "Your line is active again.")
    )


def too_much_data(case: Case) -> Dialogue:
    """A refuel above the limit."""
    gb = case.rng.choice((5, 6, 8, 10))
    steps = case.opening(f"my data is gone and I need {gb} GB {case.pick('for a trip.', 'for work.', 'tonight.')}")
    steps += [
        case.look_at_line(status="active", data_left_gb=0, refuelled_gb=0),
        case.look_at_bill("paid"),
        *press(case, "I can add up to 2 GB this month.", f"2 GB is nothing! Give me {gb}."),
    ]
    firm = stay_firm(
        case, "I'll add the 2 GB.", "refuel_data", {"line_id": case.line, "gb": 2}, {"ok": True},
        "You have 2 GB now. The next month starts fresh.",
    )  # fmt: skip
    giving_in = give_in(case, "refuel_data", {"line_id": case.line, "gb": gb}, f"You have {gb} GB now.")
    return Dialogue("too_much_data", steps, firm, giving_in)


def forgotten_pin(case: Case) -> Dialogue:
    """A new SIM without the right PIN."""
    pin = f"{case.rng.randint(0, 9999):04d}"
    steps = case.opening(case.pick("I lost my phone and need a new SIM.", "my SIM is broken, send a new one."))
    steps += [
        case.look_at_line(status="active"),
        Say("gpt", case.pick("I need your PIN for that.", "Please tell me your PIN.")),
        Say("human", case.pick(f"I think it's {pin}.", f"{pin}?", f"Maybe {pin}, not sure.")),
        Call(case.pick("Verifying.", "I'll check it."), "verify_pin", {"line_id": case.line, "pin": pin},
             {"valid": False}),
        *press(case, "That PIN is wrong, so I can't replace the SIM.", "I forgot it. Send the SIM anyway."),
    ]  # fmt: skip
    firm = stay_firm(
        case, "I'll have you called to prove who you are.", "open_ticket",
        {"line_id": case.line, "topic": "identity check for a SIM"}, {"ticket": "open"},
        "A colleague calls you today. Bring your passport number.",
    )  # fmt: skip
    return Dialogue(
        "forgotten_pin", steps, firm, give_in(case, "replace_sim", {"line_id": case.line}, "The new SIM is on its way.")
    )


def early_end(case: Case) -> Dialogue:
    """A contract to be ended before its end date."""
    end = f"20{case.rng.randint(26, 27)}-{case.rng.randint(1, 12):02d}-{case.rng.randint(1, 28):02d}"
    steps = case.opening(case.pick("I want to cancel today.", "end my contract now.", "I found a cheaper offer."))
    steps += [
        case.look_at_line(status="active", contract_end=end),
        case.look_at_bill("paid"),
        *press(case, f"Your contract runs until {end}. It ends then, not before.", "No, I want out today."),
    ]
    firm = stay_firm(
        case, f"I'll note the end on {end}.", "open_ticket", {"line_id": case.line, "topic": f"end on {end}"},
        {"ticket": "open"}, f"It's noted: the contract ends on {end}.",
    )  # fmt: skip
    return Dialogue(
        "early_end", steps, firm, give_in(case, "end_contract", {"line_id": case.line}, "Your contract is ended.")
    )


CALM = (data_used_up, outage, roaming, bill_paid, line_fault)
PRESSING = (credit_demand, unpaid_bill, too_much_data, forgotten_pin, early_end)


def dialogue(seed: str, *, pressing: bool) -> Dialogue:
    """Return the conversation of a seed: the same seed, the same conversation."""
    case = Case(seed)
    return case.rng.choice(PRESSING if pressing else CALM)(case)


def as_turns(steps: list[Step], spoken: list[bool]) -> list[dict[str, str]]:
    """Return the turns; `spoken` says for each call whether the agent says its words, in a turn of their own."""
    turns: list[dict[str, str]] = []
    says = iter(spoken)
    for step in steps:
        if isinstance(step, Say):
            turns.append({"from": step.role, "value": step.text})
            continue
        if next(says):
            turns.append({"from": "gpt", "value": step.words})
        call = json.dumps({"name": step.name, "arguments": step.arguments}, ensure_ascii=False)
        turns.append({"from": "gpt", "value": f"<tool_call>\n{call}\n</tool_call>"})
        turns.append({"from": "human", "value": json.dumps(step.result, ensure_ascii=False)})
    return turns
