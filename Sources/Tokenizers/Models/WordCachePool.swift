import Synchronization

/// The caches of a tokenizer: as many as there were calls at the same time.
final class WordCachePool: Sendable {
  private let caches = Mutex<[WordCache]>([])

  /// Lends a cache for the duration of `body`.
  func withCache<Result>(_ body: (inout WordCache) -> Result) -> Result {
    var cache = caches.withLock { $0.popLast() } ?? WordCache()
    defer {
      let returned = cache
      caches.withLock { $0.append(returned) }
    }
    return body(&cache)
  }
}
