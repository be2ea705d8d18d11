"""The phrases and words of the built-in dataset `messages`: for training, and others that are held out.

A held-out message has its sentences, names, goods and companies from the second tuple of each pair alone.
"""

Split = tuple[tuple[str, ...], tuple[str, ...]]
"""What is trained on, and what is held out."""

ORDERS: Split = (
    (
        "Could you please send {quantity} {product} to {name}? We need them by {day}.",
        "{name} here. I'd like to order {quantity} {product}, delivered on {day} if that works.",
        "Please put me down for {quantity} {product}. {Day} would be a good day for delivery. Best, {name}",
        "We are running low again: {quantity} {product} for {name}, and {day} at the latest.",
        "Order from {name}: {quantity} {product}. Delivery {day}.",
        "This is {name} from accounting. Our last order had 5 boxes, this time we need {quantity} {product} on {day}.",
        "Can I get {quantity} {product}? I am at home on {day}. Thanks, {name}",
        "{name} asked me to order {quantity} {product} for {day}. Please confirm.",
        "Hello, {quantity} {product} please, as always for {name}. The driver may come on {day} after lunch.",
        "I spoke with your colleague yesterday and we agreed on {quantity} {product}, to arrive {day}. Regards, {name}",
    ),
    (
        "On behalf of {name} I want to buy {quantity} {product}; they must be here {day}.",
        "Just a quick note: {quantity} {product} are needed {day}. Charge it to {name}.",
        "{Day} is when {name} expects the delivery, which is {quantity} {product} this week.",
        "My shelf is empty! Would {quantity} {product} be possible for {day}? Yours, {name}",
    ),
)
APPOINTMENTS: Split = (
    (
        "Hi, this is {name}. Do you have a free slot for a {service} on {day} at {time}?",
        "{name} would like to book a {service}, {day} at {time}.",
        "I need a {service} on {day}. {Time} suits me best. {name}",
        "Please move my {service} to {day}, {time}. It was on the 14th before. Thank you, {name}",
        "New booking for {name}: {service}, {day}, {time}.",
        "Is {day} at {time} still open for a {service}? My name is {name}.",
        "We have you down, {name}: your {service} is on {day} at {time}. Please bring 20 in cash.",
        "Could {name} come in for a {service}? {Day} at {time} is the only time I can offer.",
        "Good morning, I would like to make an appointment for a {service} at {time} on {day}. Kind regards, {name}",
        "Reminder for {name}: {service} on {day}, {time}. Cancel one day before if you cannot come.",
    ),
    (
        "My daughter {name} wants a {service}, and {day} around {time} would be lovely.",
        "A {service} for {name}, if you can: {time}, {day}.",
        "{Day}, {time}: that is when I can make it for the {service}. Signed, {name}",
        "You wrote that {time} on {day} is available. I take it for my {service}. {name}",
    ),
)
INVOICES: Split = (
    (
        "Please find attached invoice {number} from {company} over {amount}, payable by {due}.",
        "{company} has sent us invoice {number}. The total is {amount} and it is due on {due}.",
        "Reminder: invoice {number} of {company} is still open. Transfer {amount} before {due}.",
        "Invoice no. {number}, {company}. Amount: {amount}. Due date: {due}.",
        "We at {company} thank you for your business. Invoice {number}, {amount}, to be paid until {due}.",
        "Can you approve {number} for {company}? It is {amount} this time, last month it was 310. Deadline {due}.",
        "The bill from {company} came today, number {number}: {amount}, and they want it by {due}.",
        "Total of invoice {number}: {amount}. Pay to {company} no later than {due}.",
        "For your records: {company}, invoice {number}, due {due}, sum {amount}.",
        "I have not paid {company} yet. It is invoice {number}, {amount}, and {due} is the last day.",
    ),
    (
        "Accounts payable: {amount} go to {company} against {number}, with {due} as the final date.",
        "By {due} we owe {company} {amount}; the document is {number}.",
        "{company} asks for {amount}. See {number}, which has to be settled on or before {due}.",
        "Dear client, your invoice {number} for {amount} falls due on {due}. Sincerely, {company}",
    ),
)

FIRST_NAMES: Split = (
    (
        "Anna", "Peter", "Maria", "John", "Laura", "Ahmed", "Sofia", "David", "Emma", "Carlos", "Julia", "Thomas",
        "Nina", "Omar", "Grace", "Paul", "Lucy", "Ivan", "Clara", "Simon", "Rosa", "Henry", "Elena", "Marcus",
    ),
    ("Olivia", "Viktor", "Amara", "George", "Hannah", "Mateo", "Ingrid", "Felix", "Yuki", "Stella"),
)  # fmt: skip
LAST_NAMES: Split = (
    (
        "Berger", "Smith", "Lopez", "Khan", "Novak", "Brown", "Rossi", "Meyer", "Jensen", "Clark", "Silva", "Weber",
        "Moore", "Fischer", "Adams", "Costa", "Walker", "Petrov", "Hughes", "Lang", "Young", "Keller", "Baker", "Diaz",
    ),
    ("Lindgren", "Okafor", "Turner", "Moreau", "Schmidt", "Tanaka", "Murphy", "Vargas", "Nilsen", "Cooper"),
)  # fmt: skip
PRODUCTS: Split = (
    (
        "blue mugs", "wooden chairs", "desk lamps", "notebooks", "coffee filters", "paper bags", "garden gloves",
        "water bottles", "phone cases", "white shirts", "bath towels", "printer cartridges", "bike helmets",
        "candles", "office folders", "light bulbs", "running shoes", "flower pots", "kitchen knives", "wine glasses",
    ),
    (
        "green umbrellas", "leather belts", "picture frames", "ceramic bowls", "steel shelves", "wool blankets",
        "tennis balls", "cotton socks", "door handles", "soap bars",
    ),
)  # fmt: skip
SERVICES: Split = (
    (
        "haircut", "dental cleaning", "car inspection", "piano lesson", "back massage", "passport photo",
        "guitar lesson", "tax consultation", "bike repair", "facial", "tyre change", "yoga class", "flu shot",
    ),
    ("eye test", "manicure", "driving lesson", "blood test", "dog grooming", "legal consultation"),
)  # fmt: skip
COMPANIES: Split = (
    (
        "Northwind Traders", "Blue Harbor Ltd", "Miller & Sons", "Acme Supplies", "Greenfield Foods", "Atlas Printing",
        "Bright Energy", "Riverside Motors", "Summit Paper", "Oakwood Furniture", "Delta Cleaning", "Silver Travel",
    ),
    ("Harvest Dairy", "Polar Logistics", "Redstone Tools", "Evergreen Design", "Maple Street Books", "Orion Glass"),
)  # fmt: skip
