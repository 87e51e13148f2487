import Adapters
import Foundation
import Testing
import Training

@Suite("Configuration reference")
struct ReferenceTests {
  static let document = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../../docs/configuration.md").standardizedFileURL

  @Test("docs/configuration.md holds the tables that the code has")
  func documentIsCurrent() throws {
    let tables = ConfigurationReference.markdown()
    // GRAFT_UPDATE_DOCS=1 writes the tables instead of comparing them, after a key was added.
    let marker = "<!-- Made from the code by ReferenceTests; change the tables there. -->\n\n"
    let text = try String(contentsOf: Self.document, encoding: .utf8)
    let start = try #require(text.range(of: marker)).upperBound
    if ProcessInfo.processInfo.environment["GRAFT_UPDATE_DOCS"] == "1" {
      try (text[..<start] + tables).write(to: Self.document, atomically: true, encoding: .utf8)
    } else {
      #expect(text[start...] == tables)
    }
  }

  @Test("no key is defined twice, and each has a meaning")
  func keysAreUnique() {
    let names =
      ModelArguments.keys.map(\.name) + DataArguments.keys.map(\.name) + TrainingArguments.keys.map(\.name)
    // Options of different methods may share a name; only one method is in a file.
    for method in AdapterMethod.catalogue {
      let all = names + method.options.map(\.name)
      #expect(Set(all).count == all.count, "\(method.name)")
      #expect(method.options.allSatisfy { $0.meaning.hasSuffix(".") })
    }
    let meanings = TrainingArguments.keys.map(\.meaning) + DataArguments.keys.map(\.meaning)
    #expect(meanings.allSatisfy { $0.hasSuffix(".") && $0.count > 10 })
  }

  @Test("every property of the training arguments has a key")
  func propertiesHaveKeys() {
    let properties = Mirror(reflecting: TrainingArguments()).children.count
    #expect(properties == TrainingArguments.keys.count)
    #expect(Mirror(reflecting: DataArguments()).children.count == DataArguments.keys.count)
    #expect(Mirror(reflecting: ModelArguments()).children.count == ModelArguments.keys.count)
  }
}
