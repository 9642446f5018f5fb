"""What every server of the suite shares: settings, errors, deadlines, telemetry, the gRPC server itself."""
