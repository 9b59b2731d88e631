"""Airline and retail conversations with explicit roles: `function_call` with reasoning, and `observation`."""

from __future__ import annotations

import json
import random
from typing import Any

AIRLINE = """You are an agent of Kestrel Air. Policy:
- Read a reservation before you change it.
- Economy can be changed once, for 40 EUR; basic fares cannot be changed.
- A cancellation within 24 hours of booking is free.
- Say what it costs, and act only when the customer has agreed.
Tools: get_reservation(reservation_id), search_flights(origin, destination, date), \
change_flight(reservation_id, flight), cancel_reservation(reservation_id), add_bags(reservation_id, bags)"""

RETAIL = """You are an agent of Tallow & Reed, an online shop. Policy:
- Read an order before you change it.
- A pending order can be cancelled or sent to another address; a delivered one can be returned within 30 days.
- An exchange is for the same product only.
- Say what will happen, and act only when the customer has agreed.
Tools: get_order(order_id), cancel_order(order_id, reason), return_items(order_id, items), \
exchange_item(order_id, item, variant), change_address(order_id, address)"""

CITIES = ("OSL", "LIS", "VIE", "DUB", "ATH", "WAW", "MAD", "CPH")
ITEMS = ("linen shirt", "desk lamp", "rain jacket", "coffee grinder", "wool socks", "backpack")
STREETS = ("Gänsemarkt 4, Hamburg", "Rua Nova 11, Porto", "High Street 7, Leeds", "Żurawia 22, Warszawa")


class Talk:
    """A conversation as it is put together."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.turns: list[dict[str, str]] = []

    def customer(self, *texts: str) -> None:
        """Add one of several ways in which the customer says something."""
        self._add("human", self.rng.choice(texts))

    def agent(self, *texts: str) -> None:
        """Add one of several ways in which the agent says something."""
        self._add("gpt", self.rng.choice(texts))

    def call(self, thought: str, name: str, arguments: dict[str, Any], result: dict[str, Any]) -> None:
        """Add a call with the reasoning before it, and its result."""
        call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        self._add("function_call", f"<think>{thought}</think>\n{call}")
        self._add("observation", json.dumps(result, ensure_ascii=False))

    def _add(self, role: str, text: str) -> None:
        self.turns.append({"from": role, "value": text})


def airline(rng: random.Random) -> list[dict[str, str]]:
    """A change, a cancellation or bags."""
    talk = Talk(rng)
    code = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(6))
    start, end = rng.sample(CITIES, 2)
    date = f"2025-{rng.randint(9, 12):02d}-{rng.randint(1, 28):02d}"
    fare = rng.choice(("basic", "economy", "economy"))
    hours = rng.choice((5, 60, 200))
    booked = {"route": f"{start}-{end}", "date": date, "fare": fare, "hours_since_booking": hours, "bags": 0}
    subject = rng.choice(("change", "cancel", "bags"))
    read = ("I have to read the reservation before I change anything.", "get_reservation", {"reservation_id": code})
    if subject == "change":
        talk.customer(f"Can I fly a day later? Reservation {code}.", f"I need to move my flight {code} by one day.")
        talk.call(*read, booked)
        if fare == "basic":
            talk.agent(
                f"Your trip {start}-{end} is on a basic fare, which cannot be changed. I'm sorry.",
                f"I'm sorry: {code} is a basic fare, and those cannot be changed.",
            )
            talk.customer("That's a pity. Thanks anyway.", "Hm. All right.")
            talk.agent("You're welcome. Have a good flight!", "Sorry again, and a good trip.")
            return talk.turns
        flight, price = f"KA{rng.randint(100, 899)}", rng.randint(60, 190)
        talk.call(
            "Economy can be changed once for 40 EUR. First I look for flights on the next day.",
            "search_flights",
            {"origin": start, "destination": end, "date": f"day after {date}"},
            {"flights": [{"flight": flight, "price_eur": price}]},
        )
        talk.agent(f"{flight} has seats on the next day. The change costs 40 EUR. Shall I book it?")
        talk.customer("Yes, please book it.", "40 EUR is fine, go ahead.")
        talk.call(
            "The customer agreed to the fee.", "change_flight", {"reservation_id": code, "flight": flight}, {"ok": True}
        )
        talk.agent(f"You're on {flight} now. 40 EUR were charged.", f"Done, {flight} it is.")
    elif subject == "cancel":
        talk.customer(f"Please cancel {code}.", f"My plans changed, I want to cancel {code}.")
        talk.call(*read, booked)
        if hours > 24:
            talk.agent(f"It was booked {hours} hours ago, so it cannot be cancelled free of charge any more.")
            talk.customer("Then leave it.", "OK, I'll fly.")
            talk.agent("Nothing was changed. Have a good trip!", "Then it stays as it is.")
            return talk.turns
        talk.agent("It was booked today, so cancelling is free. Shall I?")
        talk.customer("Yes.", "Please do.")
        talk.call(
            "Within 24 hours, and the customer agreed.", "cancel_reservation", {"reservation_id": code}, {"ok": True}
        )
        talk.agent(f"{code} is cancelled, the money is on its way back.", "Cancelled, free of charge.")
    else:
        bags = rng.randint(1, 3)
        talk.customer(f"I'd like to add {bags} bags to {code}.", f"{bags} more bags for {code}, please.")
        talk.call(*read, booked)
        talk.agent(f"{bags} bags cost {bags * 35} EUR. Is that all right?")
        talk.customer("Yes.", "Fine by me.")
        talk.call("The price was accepted.", "add_bags", {"reservation_id": code, "bags": bags}, {"bags": bags})
        talk.agent(f"Your trip to {end} has {bags} bags now.", "The bags are booked.")
    return talk.turns


def retail(rng: random.Random) -> list[dict[str, str]]:
    """A return, an exchange, a cancellation or a new address."""
    talk = Talk(rng)
    order = f"#W{rng.randint(1000000, 9999999)}"
    item, other = rng.sample(ITEMS, 2)
    days = rng.choice((4, 12, 45))
    subject = rng.choice(("return", "exchange", "cancel", "address"))
    status = "delivered" if subject in ("return", "exchange") else "pending"
    known = {
        "status": status,
        "items": [item, other],
        **({"days_since_delivery": days} if status == "delivered" else {}),
    }
    read = ("The order decides what is possible, so I read it first.", "get_order", {"order_id": order})
    if subject == "return":
        talk.customer(f"I want to return the {item} from {order}.", f"The {item} in {order} is not for me.")
        talk.call(*read, known)
        if days > 30:
            talk.agent(f"It was delivered {days} days ago; returns are possible for 30 days. I'm sorry.")
            talk.customer("Really? OK.", "Too bad.")
            talk.agent("I'm sorry that I can't do more.", "Sorry about that.")
            return talk.turns
        talk.agent(f"You can return the {item}; the money goes back to your card. Shall I?")
        talk.customer("Yes, please.", "Do it.")
        talk.call(
            "Delivered less than 30 days ago, and confirmed.", "return_items", {"order_id": order, "items": [item]},
            {"label": "sent"},
        )  # fmt: skip
        talk.agent("The label is in your mail.", f"The return of the {item} is set up.")
    elif subject == "exchange":
        colour = rng.choice(("blue", "grey", "black"))
        talk.customer(f"Can I have the {item} from {order} in {colour}?", f"{order}: the {item} in {colour}, please.")
        talk.call(*read, known)
        talk.agent(f"I can exchange it for the {colour} one, at no cost. Go ahead?")
        talk.customer("Yes.", "Go ahead, thanks.")
        talk.call(
            "The same product in another colour is allowed.", "exchange_item",
            {"order_id": order, "item": item, "variant": colour}, {"ok": True},
        )  # fmt: skip
        talk.agent(f"The {colour} {item} is on its way.", "The exchange is booked.")
    elif subject == "cancel":
        talk.customer(f"Cancel {order}, I ordered by mistake.", f"Please stop {order}.")
        talk.call(*read, known)
        talk.agent(f"{order} is still pending, so I can cancel it all. Shall I?")
        talk.customer("Yes.", "Please.")
        talk.call(
            "Pending orders can be cancelled; the customer confirmed.", "cancel_order",
            {"order_id": order, "reason": "ordered by mistake"}, {"ok": True},
        )  # fmt: skip
        talk.agent("It's cancelled.", f"{order} is cancelled, nothing is charged.")
    else:
        street = rng.choice(STREETS)
        talk.customer(f"I've moved. Send {order} to {street}.", f"New address for {order}: {street}")
        talk.call(*read, known)
        talk.agent(f"It has not left yet. I'll change it to {street}, right?")
        talk.customer("Right.", "Yes, exactly.")
        talk.call(
            "Pending, and the address was confirmed.", "change_address", {"order_id": order, "address": street},
            {"ok": True},
        )  # fmt: skip
        talk.agent(f"It goes to {street} now.", "The address is changed.")
    return talk.turns
