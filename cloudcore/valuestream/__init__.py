"""Every value that nodes send at rate, handed on: to programs by gRPC, to a broker by MQTT, and kept for looking back."""
