"""A marketplace: sellers, customers, one stock, and money that must add up, whatever happens at the same time.

    python -m examples.marketplace.load                    64 customers at once; the books are audited all the while

    actorflow check examples.marketplace.app:app           who touches what, and why that is safe
    actorflow run examples.marketplace.app:app             start it, and from another terminal:
    actorflow call offer '{"seller": 1, "product": 1, "price": 99, "freight": 9, "quantity": 10}'
    actorflow call cart '{"customer": 7, "line": {"seller": 1, "product": 1, "quantity": 2, "price": 99, "freight": 9}}'
    actorflow call checkout '{"id": 1, "customer": 7}'
    actorflow call dashboard 1
    actorflow call delivery
    actorflow call track 1
    actorflow call books

`goods.py` says what is bought and sold, `app.py` is the application, `load.py` is its customers.
Read them in that order.
"""
