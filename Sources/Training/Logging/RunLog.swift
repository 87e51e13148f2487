import Foundation

/// All the places that a run's metrics go, as its arguments choose them.
public final class RunLog: MetricsSink {
  private let sinks: [any MetricsSink]

  /// Opens the sinks of a run.
  ///
  /// - Parameters:
  ///   - arguments: `output_dir`, `report_to`, `logging_dir`, `run_name` and `disable_tqdm` decide.
  ///   - configuration: the run's YAML, for TensorBoard.
  ///   - resumedStep: the step the run continues from; nil for a new run.
  ///   - status: the terminal's last line; nil shows no progress.
  /// - Throws: `LoggingError` when a file cannot be opened.
  public init(
    _ arguments: TrainingArguments, configuration: String? = nil, resumedStep: Int? = nil,
    status: StatusLine? = StatusLine()
  ) throws {
    let folder = arguments.outputDir
    let metrics = "\(folder)/\(MetricsFile.name)"
    var sinks: [any MetricsSink] = []
    // First, because it cuts off what the continued run makes again, which the plot must not hold either.
    if arguments.reports(to: .jsonl) {
      sinks.append(try MetricsFile(path: metrics, resumedStep: resumedStep))
    }
    if arguments.reports(to: .plot) {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      var plot = LossPlot(title: arguments.runName ?? URL(filePath: folder).lastPathComponent)
      if resumedStep != nil, arguments.reports(to: .jsonl) {
        plot = LossPlot(title: plot.title, records: try MetricsFile.records(path: metrics))
      }
      sinks.append(LossPlotFile(path: "\(folder)/\(LossPlotFile.name)", plot: plot))
    }
    if arguments.reports(to: .tensorboard) {
      sinks.append(
        try TensorBoardFile(
          folder: arguments.loggingDir ?? "\(folder)/runs", resumedStep: resumedStep,
          configuration: configuration))
    }
    if let status, !arguments.disableTqdm { sinks.append(ProgressBar(on: status)) }
    self.sinks = sinks
  }

  public func step(_ report: StepReport) throws {
    for sink in sinks { try sink.step(report) }
  }

  public func record(_ report: StepReport) throws {
    for sink in sinks { try sink.record(report) }
  }

  public func record(_ report: SkippedStepReport) throws {
    for sink in sinks { try sink.record(report) }
  }

  public func record(_ report: EvaluationReport) throws {
    for sink in sinks { try sink.record(report) }
  }

  public func finish() throws {
    for sink in sinks { try sink.finish() }
  }
}
