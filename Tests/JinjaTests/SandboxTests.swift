import Foundation
import JSON
import Jinja
import Testing

@Suite struct SandboxTests {
  private static let limits = RenderingLimits(steps: 200_000, stringBytes: 1 << 20)

  @Test(
    "a template that asks for too much throws",
    arguments: [
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
      "{{ 'a' * 999999999999 }}", "{{ [0] * 999999999999 }}", "{{ 'a'.center(999999999999) }}",
      "{{ '%999999999999d' % 1 }}", "{{ '{:999999999999}'.format(1) }}", "{{ 'a' | indent(999999999999) }}",
      "{{ [1]|tojson(indent=999999999999) }}", "{{ 'a'|center(9223372036854775807) }}",
      "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{% set ns = namespace(s=[0]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s='aa') %}{% for i in range(99) %}{% set ns.s = ns.s|replace('a', 'aaaa') %}{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
      "{% set ns = namespace(s={}) %}{% for i in range(99999) %}{% set ns.s = {'a': ns.s} %}{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s]|reverse %}{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% for x in [ns.s] %}{% set ns.s = loop %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s='a') %}{% for i in range(99999) %}{% set ns.s = cycler(ns.s) %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(a) %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}",
      "{% for i in [[1]] recursive %}{{ loop([i]) }}{% endfor %}",
      "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
      "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns.a }}",
      "{{ 2 ** 99999999999 }}", "{{ 9223372036854775807 + 1 }}", "{{ (-9223372036854775807 - 1) // -1 }}",
      "{{ -(-9223372036854775807 - 1) }}", "{{ (-9223372036854775807 - 1)|abs }}",
      "{{ [0]|batch(999999999999, 1)|list }}", "{{ []|slice(999999999999)|list }}",
      "{{ 'a\tb'.expandtabs(999999999999) }}",
    ])
  func limits(source: String) {
    #expect(throws: TemplateError.self) {
      try Template(source).render([:], options: .init(limits: Self.limits))
    }
  }

  @Test(
    "deeply nested sources throw and never overflow the stack",
    arguments: [
      ("(", "1", ")"), ("[", "1", "]"), ("{1:", "1", "}"), ("-", "1", ""), ("not ", "1", ""), ("1+", "1", ""),
      ("1 if ", "1", " else 2"), ("a.b(", "1", ")"), ("a[", "1", "]"), ("", "1", "|abs"), ("", "1", " + 1"),
      ("", "a", ".b"), ("", "1", " is odd"), ("(1+", "1", "+1+1)"), ("1**", "1", ""), ("1~(", "1", ")"),
    ])
  func nesting(open: String, middle: String, close: String) {
    for count in [100, 1000, 100_000] {
      let source =
        "{{ " + String(repeating: open, count: count) + middle + String(repeating: close, count: count)
        + " }}"
      _ = try? Template(source).render([:], options: .init(limits: Self.limits))
      let blocks = String(repeating: "{% if \(open)\(middle)\(close) %}", count: count)
      _ = try? Template(blocks + String(repeating: "{% endif %}", count: count)).render([:])
    }
    #expect(throws: TemplateError.self) { try Template("{{ " + String(repeating: "(", count: 100_000)) }
  }

  @Test("private attributes and changes of lists and dictionaries are refused")
  func security() throws {
    for source in [
      "{{ ''.__class__.__mro__ }}", "{{ [].append(1) }}", "{{ {}.update({}) }}", "{{ {'a': 1}.pop('a') }}",
      "{{ [1].sort() }}", "{% set n = namespace() %}{% set n.__class__ = 1 %}", "{{ namespace(_a=1) }}",
    ] {
      let error = #expect(throws: TemplateError.self) { try Template(source).render([:]) }
      #expect(error?.kind == .security, "\(source)")
    }
  }

  @Test("input that is nested beyond the limit throws")
  func deepInput() throws {
    var value: JSONValue = []
    for _ in 0..<1000 { value = [value] }
    let context: JSONValue = value
    #expect(throws: TemplateError.self) { try Template("{{ x }}").render(["x": context]) }
  }

  @Test("templates with random changes throw or render within their limits, and never trap or hang")
  func fuzz() throws {
    let fixture = try JinjaFixture()
    var sources = fixture.cases.compactMap { $0["template"]?.stringValue }
    let chat = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "ChatTemplateTests/Fixtures/templates")
    for file in try FileManager.default.contentsOfDirectory(at: chat, includingPropertiesForKeys: nil)
      .sorted(by: { $0.path < $1.path })
    {
      sources.append(String(decoding: try Data(contentsOf: file), as: UTF8.self))
    }
    let pieces: [[UInt8]] = [
      "{{", "}}", "{%", "%}", "{#", "#}", "-", "+", "|", "(", ")", "[", "]", ".", ",", "'", "\"", "\\",
      " if ", " for ",
      " in ", " not ", "endfor", "loop", "ns", "None", "99999999999", "-1", "0", "**", "//", "%", "~", "é",
      "\u{301}",
      "\n", "\r", "{% set x = messages %}", "{% endif %}", "|list", "|tojson", "[::-1]", "[:]", ".items()",
    ].map { Array($0.utf8) }
    var random = SplitMix64(state: 42)
    var outcomes = (rendered: 0, refused: 0)
    let options = RenderingOptions(
      limits: .init(steps: 50_000, stringBytes: 1 << 18), now: Date(timeIntervalSince1970: 0),
      timeZone: TimeZone(secondsFromGMT: 0) ?? .current)
    let clock = ContinuousClock()
    let start = clock.now
    for _ in 0..<20_000 {
      var bytes = Array(sources[random.below(sources.count)].utf8)
      for _ in 0...random.below(4) {
        let place = random.below(bytes.count + 1)
        switch random.below(4) {
        case 0 where place < bytes.count: bytes[place] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.removeSubrange(place..<min(bytes.count, place + random.below(8)))
        case 2:
          let from = random.below(bytes.count + 1)
          bytes.insert(contentsOf: bytes[from..<min(bytes.count, from + random.below(40))], at: place)
        default: bytes.insert(contentsOf: pieces[random.below(pieces.count)], at: place)
        }
      }
      do {
        _ = try Template(String(decoding: bytes, as: UTF8.self)).render(fixture.context, options: options)
        outcomes.rendered += 1
      } catch {
        outcomes.refused += 1
      }
    }
    let seconds = (clock.now - start) / .seconds(1)
    print("fuzz: \(outcomes) in \(seconds) s")
    #expect(outcomes.rendered > 1000 && outcomes.refused > 1000)
    #expect(seconds < 120)
  }
}

/// A random generator with a fixed seed (Steele, Lea and Flood, 2014).
private struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(max(bound, 1))) }
}
