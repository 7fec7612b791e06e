"""The key, the payload, and whose they are: items 1 to 17."""

import json
from base64 import b64encode

from case import Answer, Case, needs
from client import raw

LONGEST = "k" * 255

# As RFC 8941 has a String: what is between the quotes may be any printable ASCII, `"` and `\\` escaped.
GOOD = [
    (rb'"a"', "a"),
    (rb'"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
    (rb'" "', " "),
    (rb'"a b"', "a b"),
    (rb'"!#$%&()*+-./:;<=>?@[]^_`{|}~"', "!#$%&()*+-./:;<=>?@[]^_`{|}~"),
    (rb'"a,b"', "a,b"),
    (rb'"a\"b"', 'a"b'),
    (rb'"a\\b"', "a\\b"),
    (rb'"\"\\"', '"\\'),
    (b'  "a"  ', "a"),
    (f'"{LONGEST}"'.encode(), LONGEST),
]

BAD = [
    b"",
    b'""',
    b'"',
    b'"a',
    b'a"',
    rb'"a\"',
    rb'"a\b"',
    rb'"a\u0041"',
    b'"a"b',
    b'"a" "b"',
    b'"a","b"',
    b'"a", "b"',
    b'"a";p=1',
    b'"\t"',
    '"ä"'.encode(),
    b'"\xff"',
    b"'a'",
    b":YQ==:",
    b"?1",
    b"(\"a\")",
    f'"{LONGEST}k"'.encode(),
]

# What only a lenient server takes, and as what; and what it doesn't take either.
BARE = [(b"a", "a"), (b"4f2c81", "4f2c81"), (b"a/b:c=d", "a/b:c=d"), (LONGEST.encode(), LONGEST)]
NOT_EVEN_BARE = [b"a b", b"a,b", b"a, b", b'a"b', b"a\\b", "ä".encode(), b"\xff", f"{LONGEST}k".encode()]


class Keys(Case):
    def test_01_a_key_is_a_string_of_rfc_8941(self):
        for number, (header, key) in enumerate(GOOD):
            with self.subTest(header=header):
                path = f"{self.path}/{number}"
                first = self.post(path, header=header)
                self.told(first)
                self.replays(self.post(path, header=header), first)
                self.executed(1, path)
                unquoted = self.origin.executions(path)[0].headers.get("x-key", key)
                self.assertEqual(unquoted.strip(), key.strip())

    def test_01_one_key_written_in_two_ways(self):
        first = self.post(header=b'"a"')
        self.replays(self.post(header=b' "a"\t'), first)
        self.executed(1)

    def test_01_a_headers_name_has_no_case(self):
        for number, name in enumerate(["idempotency-key", "IDEMPOTENCY-KEY", "iDEMPOTENCY-kEY"]):
            reply = self.send("POST", headers=[(name, f'"{self.key}"')])
            self.told(reply, replayed=number > 0, body=b"execution 1")

    @needs("lenient")
    def test_01_lenient_takes_a_bare_token_for_the_same_key(self):
        server = self.server(lenient=True)
        for number, (header, key) in enumerate(BARE):
            with self.subTest(header=header):
                path = f"{self.path}/{number}"
                first = self.post(path, header=header, at=server)
                self.told(first)
                self.replays(self.post(path, key=key, at=server), first)
                self.executed(1, path)

    def test_01_a_bare_token_is_refused(self):
        for header, _ in BARE:
            with self.subTest(header=header):
                self.problem(self.post(header=header), 400, "key-invalid")
        self.executed(0)

    @needs("lenient")
    def test_01_lenient_isnt_careless(self):
        for header in NOT_EVEN_BARE + [bad for bad in BAD if bad.startswith(b'"')]:
            with self.subTest(header=header):
                self.problem(self.post(header=header, at=self.server(lenient=True)), 400, "key-invalid")
        self.executed(0)

    def test_02_required_but_missing(self):
        for method in ["POST", "PATCH"]:
            self.problem(self.send(method), 400, "key-missing")
        self.executed(0)

    @needs("docs")
    def test_02_a_problem_links_to_the_docs(self):
        server = self.server(docs="https://example.org/keys")
        missing = self.send("POST", at=server)
        self.problem(missing, 400, "key-missing")
        self.assertEqual(missing.header("link"), '<https://example.org/keys>; rel="help"')

    def test_03_optional_and_missing(self):
        for method in ["GET", "PUT", "DELETE"]:
            self.told(self.send(method))
        self.executed(3)

    @needs("optional")
    def test_03_optional_of_a_post(self):
        server = self.server(optional=True)
        self.told(self.send("POST", at=server))
        self.told(self.send("POST", at=server))
        first = self.post(at=server)
        self.replays(self.post(at=server), first)
        self.executed(3)

    def test_04_unusable_is_refused_and_never_ignored(self):
        for method in ["POST", "PATCH", "PUT", "DELETE"]:
            for header in BAD:
                with self.subTest(method=method, header=header):
                    told = self.problem(self.send(method, header=header), 400, "key-invalid")
                    self.assertIn("Nothing was executed", told["detail"])
        self.executed(0)

    def test_04_what_no_header_may_have(self):
        for byte in [b"\x7f", b"\x01"]:
            self.assertEqual(self.post(header=b'"a' + byte + b'b"').status, 400)
        self.executed(0)

    def test_05_several_keys_are_refused(self):
        twice = [("Idempotency-Key", '"a"')]
        self.problem(self.post(header=b'"b"', headers=twice), 400, "key-invalid")
        self.problem(self.post(header=b'"a"', headers=twice), 400, "key-invalid")
        self.executed(0)

    def test_06_a_key_counts_where_methods_change_something(self):
        for method in ["POST", "PATCH", "PUT", "DELETE"]:
            with self.subTest(method=method):
                path = f"{self.path}/{method}"
                first = self.send(method, path, key=self.key)
                self.told(first)
                self.replays(self.send(method, path, key=self.key), first)
                self.executed(1, path)

    def test_06_a_key_on_another_method_is_ignored(self):
        self.told(self.send("OPTIONS", key=self.key), body=b"execution 1")
        self.told(self.send("OPTIONS", key=self.key), body=b"execution 2")

    def test_07_another_route_is_another_key(self):
        first = self.post()
        self.told(self.post(f"{self.path}/more"), body=b"execution 1")
        self.told(self.send("PATCH", key=self.key), body=b"execution 2")
        self.replays(self.post(), first)

    def test_08_a_key_names_nothing_but_itself(self):
        for number, key in enumerate(["../../../etc/passwd", "'; DROP TABLE payments; --", "%00", "__proto__"]):
            path = f"{self.path}/{number}"
            first = self.post(path, key=key)
            self.told(first)
            self.replays(self.post(path, key=key), first)

    @needs("can_be_written")
    def test_08_credentials_arent_stored(self):
        secret = f"Bearer {self.key}-secret"
        self.told(self.post(headers=[("Authorization", secret)]))
        contents = self.store.contents()
        self.assertIn(self.key.encode(), contents)
        self.assertNotIn(secret.encode(), contents)

    def test_09_another_principal_has_other_keys(self):
        def as_(name):
            credentials = b64encode(f"{name}:word".encode()).decode()
            return self.post(headers=[("Authorization", f"Basic {credentials}")])

        ada, bob = as_("ada"), as_("bob")
        self.told(ada, body=b"execution 1")
        self.told(bob, body=b"execution 2")
        self.told(self.post(), body=b"execution 3")
        self.replays(as_("ada"), ada)
        self.replays(as_("bob"), bob)
        self.executed(3)

    @needs("hosts")
    def test_09_another_host_has_other_keys(self):
        def at(host):
            return self.post(headers=[("Host", host)])

        shop, bank = at("shop.example"), at("bank.example")
        self.told(shop, body=b"execution 1")
        self.told(bank, body=b"execution 2")
        self.replays(at("Shop.Example"), shop)
        self.replays(at("bank.example"), bank)
        self.executed(2)

    def test_10_another_payload_is_refused(self):
        first = self.post(body=b"100")
        self.problem(self.post(body=b"999"), 422, "key-reused")
        self.replays(self.post(body=b"100"), first)
        self.executed(1)

    def test_10_and_11_also_while_in_progress(self):
        with self.origin.holding(self.path):
            first = self.later(self.post, body=b"100")
            self.origin.wait_for(self.path, 1)
            self.problem(self.post(body=b"999"), 422, "key-reused")
        first = first.result()
        self.told(first)
        self.replays(self.post(body=b"100"), first)
        self.executed(1)

    @needs("chunks")
    def test_10_how_a_body_is_sent_doesnt_count(self):
        first = self.post(body=b"0123456789")
        chunked = b"Transfer-Encoding: chunked\r\n\r\n3\r\n012\r\n7;a=b\r\n3456789\r\n0\r\n\r\n"
        said = raw(self.server().address, self.head() + chunked)
        self.assertIn(b"idempotent-replayed: true\r\n", said.lower())
        self.assertIn(first.body, said)
        self.executed(1)

    def test_12_another_key_executes(self):
        self.told(self.post(), body=b"execution 1")
        self.told(self.post(key=f"{self.key}2"), body=b"execution 2")

    def test_13_the_query_is_of_the_payload(self):
        first = self.post(f"{self.path}?to=ada")
        for query in ["?to=bob", "?", "", "?to=ada&", "?TO=ada"]:
            with self.subTest(query=query):
                self.problem(self.post(f"{self.path}{query}"), 422, "key-reused")
        self.replays(self.post(f"{self.path}?to=ada"), first)
        self.executed(1)

    @needs("empty_query")
    def test_13_an_empty_query_isnt_none(self):
        first = self.post()
        self.problem(self.post(f"{self.path}?"), 422, "key-reused")
        self.replays(self.post(), first)

    @needs("payload_field")
    def test_13_the_payload_can_be_chosen(self):
        server = self.server(payload_field="cents")

        def pay(**what):
            return self.post(body=json.dumps(what).encode(), at=server)

        first = pay(cents=100, sent="monday")
        self.replays(pay(sent="tuesday", cents=100), first)
        self.problem(pay(cents=900, sent="monday"), 422, "key-reused")
        self.executed(1)

    def test_14_where_one_part_ends_another_begins(self):
        first = self.post(f"{self.path}?a", body=b"b")
        self.problem(self.post(f"{self.path}?ab", body=b""), 422, "key-reused")
        self.problem(self.post(self.path, body=b"?ab"), 422, "key-reused")
        self.replays(self.post(f"{self.path}?a", body=b"b"), first)

    def test_14_a_principal_cant_reach_into_the_route(self):
        self.told(self.post("/b", headers=[("Authorization", f"{self.key}POST/a")]))
        self.assertFalse(self.post("/a/b", headers=[("Authorization", f"{self.key}")]).replayed)

    def test_16_the_payload_still_counts_after_completion(self):
        with self.origin.holding(self.path):
            waits = [self.later(self.post, body=b"100") for _ in range(2)]
            self.origin.wait_for(self.path, 1)
        for reply in waits:
            self.told(reply.result(), replayed=reply.result().replayed)
        self.problem(self.post(body=b"999"), 422, "key-reused")
        self.executed(1)

    @needs("lasting")
    def test_16_in_another_process_too(self):
        first = self.post(body=b"100")
        other = self.own_server()
        self.problem(self.post(body=b"999", at=other), 422, "key-reused")
        self.replays(self.post(body=b"100", at=other), first)
        self.executed(1)

    def test_17_no_payload_is_like_another(self):
        payloads = [b"", b"0", b"false", b'""', b"null", b"\0", b"\xff", b" "]
        for payload in payloads:
            path, key = f"{self.path}/{payload.hex()}", f"{self.key}{payload.hex()}"
            first = self.post(path, key=key, body=payload)
            self.told(first)
            for other in payloads:
                if other == payload:
                    self.replays(self.post(path, key=key, body=other), first)
                else:
                    self.problem(self.post(path, key=key, body=other), 422, "key-reused")
            self.executed(1, path)

    def test_35_a_key_isnt_spent_by_what_was_refused(self):
        self.origin.answers(self.path, Answer(201))
        self.problem(self.post(header=self.key.encode() + b'"'), 400, "key-invalid")
        self.told(self.post())
        self.executed(1)
