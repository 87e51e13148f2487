import Foundation
import JSON
import Jinja
import OrderedCollections
import Testing

/// Small templates and what Jinja, set up as transformers sets it up, makes of them.
struct JinjaFixture {
  let context: OrderedDictionary<String, JSONValue>
  let cases: [JSONValue]

  static let options = RenderingOptions(
    now: Date(timeIntervalSince1970: 1_741_529_106), timeZone: TimeZone(secondsFromGMT: 0) ?? .current)

  init() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/jinja.json")
    let json = try JSONValue(parsing: Data(contentsOf: file))
    context = try #require(json["context"]?.objectValue)
    cases = try #require(json["cases"]?.arrayValue)
  }
}

@Suite struct ConformanceTests {
  @Test("expressions and statements give what Jinja gives, errors included")
  func cases() throws {
    let fixture = try JinjaFixture()
    #expect(fixture.cases.count > 700)
    var counts = (texts: 0, errors: 0)
    for entry in fixture.cases {
      let source = try #require(entry["template"]?.stringValue)
      let outcome = Result {
        try Template(source).render(fixture.context, options: JinjaFixture.options)
      }
      switch outcome {
      case .success(let text):
        let expected = entry["text"]?.stringValue
        let isSame = expected.map { $0.utf8.elementsEqual(text.utf8) } ?? false
        #expect(isSame, "\(source): \(text) instead of \(entry)")
        counts.texts += 1
      case .failure(let error as TemplateError):
        #expect(entry["error"] != nil, "\(source): \(error) instead of \(entry)")
        // The messages of Python's own errors are not ours; those of Jinja are.
        if let message = entry["message"]?.stringValue { #expect(error.message == message, "\(source)") }
        counts.errors += 1
      case .failure(let error): Issue.record("\(source): \(error)")
      }
    }
    print("jinja: \(counts)")
    #expect(counts.texts > 500 && counts.errors > 100)
  }

  @Test(
    "an error names the template's line",
    arguments: [
      ("a\n{{ 1 / 0 }}", 2), ("a\n{% if x %}\n", 2), ("{# c\n\n #}\n{% foo %}", 4),
      ("{% macro m() %}\n\n{{ x.y }}{% endmacro %}\n{{ m() }}", 3), ("\n\n{{ raise_exception('no') }}", 3),
      ("{% raw %}\n{% endraw %}\n{{ 'a' + 1 }}", 3), ("{{ 'a\nb' }}{{\n x.y }}", 3),
    ])
  func lines(source: String, line: Int) {
    let error = #expect(throws: TemplateError.self) { try Template(source).render([:]) }
    if source.contains("{% if x %}") {
      #expect(error?.message.contains("line \(line)") == true)
    } else {
      #expect(error?.line == line)
    }
  }
}
