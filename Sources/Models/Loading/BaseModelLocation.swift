import Foundation

/// Where the base model lies that an adapter names in `base_model_name_or_path`.
public enum BaseModelLocation {
  /// The path of the base model.
  ///
  /// An absolute path is taken as it is. A relative one counts from the current folder, as PEFT reads it; where nothing is
  /// there, from the adapter's folder and those that it lies in, so that a folder with base and adapters can be moved,
  /// or used from elsewhere.
  ///
  /// - Parameters:
  ///   - named: `base_model_name_or_path`.
  ///   - adapter: the adapter's folder.
  /// - Throws: ``ModelError`` naming every place that was tried.
  public static func resolve(_ named: String, adapter: URL) throws -> String {
    let places = candidates(named, adapter: adapter)
    // What is read there says what is wrong with it.
    if FileManager.default.fileExists(atPath: places[0]) { return places[0] }
    if let found = places.first(where: isModel) { return found }
    throw ModelError(
      "The adapter at \(adapter.path) is for the base model `\(named)` (`base_model_name_or_path` in its "
        + "adapter_config.json), which is at none of these places: \(places.joined(separator: ", ")). Name the base "
        + "model's folder or file, and the adapter beside it.")
  }

  private static func candidates(_ named: String, adapter: URL) -> [String] {
    guard !named.hasPrefix("/") else { return [named] }
    var places = [URL(fileURLWithPath: named).standardizedFileURL.path]
    var folder = adapter.standardizedFileURL
    while true {
      let place = folder.appendingPathComponent(named).standardizedFileURL.path
      if !places.contains(place) { places.append(place) }
      guard folder.path != "/" else { return places }
      folder.deleteLastPathComponent()
    }
  }

  /// A file, or a folder that holds a model: one that only has the name does not end the search.
  private static func isModel(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { return false }
    guard isFolder.boolValue else { return true }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.contains("config.json") || names.contains { $0.hasSuffix(".gguf") }
  }
}
