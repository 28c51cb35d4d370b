"""Banking: fifty thousand transfers between a thousand accounts, each account an actor.

Shows request and response between actors: to pay, an account asks the other to take the money and waits for the answer.
Meanwhile it takes nothing else in hand, so there is one transfer at a time per account. Money flows to accounts of
higher numbers only, hence nobody waits in a circle (were it otherwise, `ask` would raise CallCycleError and say so).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG, seq_hash

SEED = 123456
MILLION = 10**6


@dataclass(slots=True)
class Plan:
    """How many accounts, and how many transfers between them."""

    accounts: int
    transfers: int


@dataclass(slots=True)
class Pay:
    """Move an amount from the account that receives this to another, and let the teller know."""

    amount: int
    to: Address
    teller: Address


@dataclass(slots=True)
class Credit:
    """Take an amount in."""

    amount: int


@dataclass(slots=True)
class Paid:
    """One transfer is done."""

    amount: int


@dataclass(slots=True)
class Report:
    """Say what the account has gained or lost."""


@dataclass(slots=True)
class Balance:
    """What an account has gained or lost."""

    account: int
    net: int


class Account(Operator):
    """Pays and takes, one at a time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.net = 0
        self.paying = False

    async def process(self, message: Pay | Credit | Report) -> Balance | bool | None:
        assert not self.paying, "two transfers at a time"
        match message:
            case Pay(amount, to, teller):
                self.paying = True
                await self.ask(to, Credit(amount))
                self.net -= amount
                self.paying = False
                self.tell(teller, Paid(amount))
            case Credit(amount):
                self.net += amount
                return True
            case Report():
                return Balance(self.number, self.net)
        return None


class Teller(Operator):
    """Orders all transfers at once and asks for the balances when the last is done."""

    def __init__(self, accounts: list[Address]) -> None:
        self.accounts = accounts
        self.chance = SavinaLCG(SEED)
        self.open = 0

    def process(self, message: Plan | Paid) -> Paid | None:
        if isinstance(message, Plan):
            for _ in range(message.transfers):
                self.order()
            return None
        self.open -= 1
        if not self.open:
            for account in self.accounts:
                self.tell(account, Report())
        return message

    def order(self) -> None:
        """Order one transfer from an account to one of a higher number."""
        count = len(self.accounts)
        source = self.chance.next_int(count // 10 * 8)
        target = source + (self.chance.next_int(count - source) or 1)
        amount = 1000 * MILLION // (self.chance.next_long() + 1)
        self.tell(self.accounts[source], Pay(amount, self.accounts[target], self.address))
        self.open += 1


class Bank(Operator):
    """Opens the accounts."""

    def process(self, plan: Plan) -> None:
        accounts = [self.spawn(Account, number) for number in range(plan.accounts)]
        self.tell(self.spawn(Teller, accounts), plan)


def summary(results: list[Paid | Balance]) -> dict[str, Any]:
    paid = [result.amount for result in results if isinstance(result, Paid)]
    balances = {result.account: result.net for result in results if isinstance(result, Balance)}
    net = [balances[number] for number in sorted(balances)]
    assert sum(net) == 0, "money was made or lost"
    return {
        "transactions": len(paid),
        "sum_of_net": sum(net),
        "moved_total": sum(paid),
        "net_sha256": seq_hash(net),
        "accounts_touched": sum(each != 0 for each in net),
        "min_net": min(net),
        "max_net": max(net),
    }


app = App("savina-banking")
banking = app.stream("banking", Plan, dict, timeout_s=180).then(Bank).collect().map(summary)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(banking, Plan(params["A"], params["N"]))
