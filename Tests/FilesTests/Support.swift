import Files
import Foundation
import Testing

/// The error of `body`, which must be a `FileError` that names `parts`.
func expectFileError(
  _ code: FileError.Code, _ parts: String..., location: SourceLocation = #_sourceLocation,
  _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("nothing was thrown", sourceLocation: location)
  } catch let error as FileError {
    #expect(error.code == code, "\(error)", sourceLocation: location)
    for part in parts {
      #expect(error.description.contains(part), "\(error) lacks \(part)", sourceLocation: location)
    }
    #expect(!error.remedy.isEmpty, sourceLocation: location)
  } catch {
    Issue.record("\(error) is no FileError", sourceLocation: location)
  }
}
