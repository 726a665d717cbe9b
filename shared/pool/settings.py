"""What the pool side is told by its environment."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from shared.settings import Settings

ATTEMPT_SECONDS = 60.0
"""The longest that one attempt of a claim may take."""

LEASE_MARGIN_SECONDS = 10.0
"""By how much a lease outlives the last moment at which the services side may still send: clocks differ a little."""


class PoolSettings(Settings):
    """The settings of every function of the pool side."""

    pool_database_url: SecretStr = Field(description="the pool side's Postgres, postgresql://user:password@host/name")
    pool_api_key: SecretStr = Field(description="the key that callers and operators send", min_length=1)
    pool_environment: str = Field("local", description="which environment this is", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    services_url: str = Field(description="where the services side is", pattern=r"^https?://")
    services_api_key: SecretStr = Field(description="the key that the two sides share", min_length=1)
    pool_url: str = Field("", description="where the tick is; empty: at SERVICES_URL", pattern=r"^(https?://.*)?$")
    pool_min_idle: int = Field(3, ge=0, le=10_000, description="how many instances to keep warm")
    pool_max_instances: int = Field(100, ge=0, le=100_000, description="the spending cap on instances of any status")
    pool_create_concurrency: int = Field(8, ge=1, le=1000, description="how many creations may be under way at once")
    pool_stuck_timeout_seconds: float = Field(900, ge=1, description="how long an unclaimed instance may fail its checks")
    pool_loss_limit: float = Field(0.25, gt=0, le=1, description="the share of the pool that one tick may lose")
    claim_lease_seconds: float = Field(120, le=3600, description="how long a claim holds its instance before it is settled")
    claim_timeout_seconds: float = Field(75, ge=11, le=600, description="how long a claim may take in all")
    sweep_interval_seconds: float = Field(
        3600, ge=0, le=604_800, description="how often every vendor's inventory is compared with our tables; 0: never"
    )
    tick_budget_seconds: float = Field(50, ge=5, le=900, description="how long a tick may take")

    @model_validator(mode="after")
    def _check_together(self) -> PoolSettings:
        if self.claim_lease_seconds < ATTEMPT_SECONDS + LEASE_MARGIN_SECONDS:
            raise ValueError(
                f"CLAIM_LEASE_SECONDS must be at least {ATTEMPT_SECONDS + LEASE_MARGIN_SECONDS:.0f}, longer than one attempt"
            )
        if self.pool_api_key == self.services_api_key:
            raise ValueError("POOL_API_KEY and SERVICES_API_KEY must not be the same value")
        return self
