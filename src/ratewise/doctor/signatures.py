"""The interfaces of the peers: what their schedulers are called, and their arguments in order, with defaults."""

_KERAS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Ftrl", "Lion", "Muon")
_WARM = "optimizer, num_warmup_steps, num_training_steps"
_TIMM = "warmup_t=0, warmup_lr_init=0.0, warmup_prefix={}, t_in_epochs=True"
_CYCLES = "lr_min=0.0, cycle_mul=1.0, cycle_decay=1.0, cycle_limit=1, " + _TIMM.format(False)
_IGNITE = (
    "optimizer, param_name, start_value, end_value, cycle_size, cycle_mult=1.0, start_value_mult=1.0, "
    "end_value_mult=1.0, warmup_duration=0"
)
_MM = "begin=0, end=1000000000, by_epoch=True"

SIGNATURES: dict[str, str] = {
    # PyTorch
    "torch.LambdaLR": "optimizer, lr_lambda, last_epoch=-1",
    "torch.MultiplicativeLR": "optimizer, lr_lambda, last_epoch=-1",
    "torch.StepLR": "optimizer, step_size, gamma=0.1, last_epoch=-1",
    "torch.MultiStepLR": "optimizer, milestones, gamma=0.1, last_epoch=-1",
    "torch.ConstantLR": "optimizer, factor=0.3333333333333333, total_iters=5, last_epoch=-1",
    "torch.LinearLR": "optimizer, start_factor=0.3333333333333333, end_factor=1.0, total_iters=5, last_epoch=-1",
    "torch.ExponentialLR": "optimizer, gamma, last_epoch=-1",
    "torch.SequentialLR": "optimizer, schedulers, milestones, last_epoch=-1",
    "torch.PolynomialLR": "optimizer, total_iters=5, power=1.0, last_epoch=-1",
    "torch.CosineAnnealingLR": "optimizer, T_max, eta_min=0.0, last_epoch=-1",
    "torch.ChainedScheduler": "schedulers, optimizer=None",
    "torch.ReduceLROnPlateau": "optimizer, mode='min', factor=0.1, patience=10, threshold=0.0001, "
    "threshold_mode='rel', cooldown=0, min_lr=0, eps=1e-08",
    "torch.CyclicLR": "optimizer, base_lr, max_lr, step_size_up=2000, step_size_down=None, mode='triangular', "
    "gamma=1.0, scale_fn=None, scale_mode='cycle', cycle_momentum=True, base_momentum=0.8, max_momentum=0.9",
    "torch.CosineAnnealingWarmRestarts": "optimizer, T_0, T_mult=1, eta_min=0.0, last_epoch=-1",
    "torch.OneCycleLR": "optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3, "
    "anneal_strategy='cos', cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, div_factor=25.0, "
    "final_div_factor=10000.0, three_phase=False, last_epoch=-1",
    "torch.SWALR": "optimizer, swa_lr, anneal_epochs=10, anneal_strategy='cos', last_epoch=-1",
    "torch.SGD": "params, lr=0.001, momentum=0",
    "torch.RMSprop": "params, lr=0.01, alpha=0.99, eps=1e-08, weight_decay=0, momentum=0",
    **{
        f"torch.{name}": "params, lr=0.001, betas=(0.9, 0.999)"
        for name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")
    },
    **{f"torch.{name}": "params, lr=0.01" for name in ("Adagrad", "Adadelta", "Rprop", "ASGD", "LBFGS", "Adafactor")},
    # Keras
    "keras.ExponentialDecay": "initial_learning_rate, decay_steps, decay_rate, staircase=False",
    "keras.PiecewiseConstantDecay": "boundaries, values",
    "keras.PolynomialDecay": "initial_learning_rate, decay_steps, end_learning_rate=0.0001, power=1.0, cycle=False",
    "keras.InverseTimeDecay": "initial_learning_rate, decay_steps, decay_rate, staircase=False",
    "keras.CosineDecay": "initial_learning_rate, decay_steps, alpha=0.0, name='', warmup_target=None, warmup_steps=0",
    "keras.CosineDecayRestarts": "initial_learning_rate, first_decay_steps, t_mul=2.0, m_mul=1.0, alpha=0.0",
    "keras.ReduceLROnPlateau": "monitor='val_loss', factor=0.1, patience=10, verbose=0, mode='auto', min_delta=0.0001, "
    "cooldown=0, min_lr=0.0",
    "keras.LearningRateScheduler": "schedule, verbose=0",
    **{f"keras.{name}": "learning_rate=0.001, gradient_accumulation_steps=None" for name in _KERAS},
    # optax
    "optax.linear_schedule": "init_value, end_value, transition_steps, transition_begin=0",
    "optax.polynomial_schedule": "init_value, end_value, power, transition_steps, transition_begin=0",
    "optax.exponential_decay": "init_value, transition_steps, decay_rate, transition_begin=0, staircase=False, "
    "end_value=None",
    "optax.cosine_decay_schedule": "init_value, decay_steps, alpha=0.0, exponent=1.0",
    "optax.linear_onecycle_schedule": "transition_steps, peak_value, pct_start=0.3, pct_final=0.85, div_factor=25.0, "
    "final_div_factor=10000.0",
    "optax.cosine_onecycle_schedule": "transition_steps, peak_value, pct_start=0.3, div_factor=25.0, "
    "final_div_factor=10000.0",
    "optax.warmup_constant_schedule": "init_value, peak_value, warmup_steps",
    "optax.warmup_cosine_decay_schedule": "init_value, peak_value, warmup_steps, decay_steps, end_value=0.0, "
    "exponent=1.0",
    "optax.warmup_exponential_decay_schedule": "init_value, peak_value, warmup_steps, transition_steps, decay_rate, "
    "transition_begin=0, staircase=False, end_value=None",
    "optax.sgdr_schedule": "cosine_kwargs",
    "optax.join_schedules": "schedules, boundaries",
    "optax.inject_hyperparams": "inner_factory, static_args=(), hyperparam_dtype=None",
    "optax.reduce_on_plateau": "factor=0.1, patience=10, rtol=0.0001, atol=0.0, cooldown=0, accumulation_size=1, "
    "min_scale=0.0",
    # Hugging Face
    "hf.get_scheduler": "name, optimizer, num_warmup_steps=None, num_training_steps=None, "
    "scheduler_specific_kwargs=None",
    "hf.get_constant_schedule": "optimizer, last_epoch=-1",
    "hf.get_constant_schedule_with_warmup": "optimizer, num_warmup_steps, last_epoch=-1",
    "hf.get_linear_schedule_with_warmup": f"{_WARM}, last_epoch=-1",
    "hf.get_cosine_schedule_with_warmup": f"{_WARM}, num_cycles=0.5, last_epoch=-1",
    "hf.get_cosine_with_hard_restarts_schedule_with_warmup": f"{_WARM}, num_cycles=1, last_epoch=-1",
    "hf.get_polynomial_decay_schedule_with_warmup": f"{_WARM}, lr_end=1e-07, power=1.0, last_epoch=-1",
    "hf.get_inverse_sqrt_schedule": "optimizer, num_warmup_steps, timescale=None, last_epoch=-1",
    "hf.get_cosine_with_min_lr_schedule_with_warmup": f"{_WARM}, num_cycles=0.5, last_epoch=-1, min_lr=None, "
    "min_lr_rate=None",
    "hf.get_cosine_with_min_lr_schedule_with_warmup_lr_rate": f"{_WARM}, num_cycles=0.5, last_epoch=-1, min_lr=None, "
    "min_lr_rate=None, warmup_lr_rate=None",
    "hf.get_wsd_schedule": "optimizer, num_warmup_steps, num_decay_steps, num_training_steps=None, "
    "num_stable_steps=None, warmup_type='linear', decay_type='cosine', min_lr_ratio=0, num_cycles=0.5, last_epoch=-1",
    "hf.get_reduce_on_plateau_schedule": "optimizer",
    "hf.GreedyLR": "optimizer, mode='min', factor=0.95, patience=10, threshold=1e-06, threshold_mode='abs', "
    "cooldown=0, warmup=0, min_lr=0.001, max_lr=1.0",
    "hf.get_greedy_schedule": "optimizer, min_lr=0.001",
    **{
        f"hf.{name}": "output_dir=None, learning_rate=5e-05, max_steps=-1, warmup_steps=0, warmup_ratio=None, "
        "lr_scheduler_type='linear', lr_scheduler_kwargs=None"
        for name in ("TrainingArguments", "Seq2SeqTrainingArguments")
    },
    "accelerate.AcceleratedScheduler": "scheduler, optimizers",
    "diffusers.get_scheduler": "name, optimizer, step_rules=None, num_warmup_steps=None, num_training_steps=None, "
    "num_cycles=1, power=1.0, last_epoch=-1",
    # timm
    "timm.CosineLRScheduler": f"optimizer, t_initial, {_CYCLES}",
    "timm.PolyLRScheduler": f"optimizer, t_initial, power=0.5, {_CYCLES}",
    "timm.TanhLRScheduler": f"optimizer, t_initial, lb=-7.0, ub=3.0, {_CYCLES}",
    "timm.StepLRScheduler": f"optimizer, decay_t, decay_rate=1.0, {_TIMM.format(True)}",
    "timm.MultiStepLRScheduler": f"optimizer, decay_t, decay_rate=1.0, {_TIMM.format(True)}",
    "timm.PlateauLRScheduler": "optimizer, decay_rate=0.1, patience_t=10",
    "timm.create_scheduler_v2": "optimizer, sched='cosine', num_epochs=300, decay_epochs=None, "
    "decay_milestones=(90, 180, 270), cooldown_epochs=0, patience_epochs=10, decay_rate=0.1, min_lr=0.0, "
    "warmup_lr=1e-05, warmup_epochs=0, warmup_prefix=False",
    # fvcore, ignite
    "fvcore.ConstantParamScheduler": "value",
    "fvcore.CosineParamScheduler": "start_value, end_value",
    "fvcore.LinearParamScheduler": "start_value, end_value",
    "fvcore.MultiStepParamScheduler": "values, num_updates=None, milestones=None",
    "fvcore.PolynomialDecayParamScheduler": "base_value, power",
    "fvcore.StepParamScheduler": "num_updates, values",
    "fvcore.StepWithFixedGammaParamScheduler": "base_value, num_decays, gamma, num_updates",
    "fvcore.CompositeParamScheduler": "schedulers, lengths, interval_scaling",
    "ignite.LinearCyclicalScheduler": _IGNITE,
    "ignite.CosineAnnealingScheduler": _IGNITE,
    # pytorch_optimizer (kozistr), pytorch_warmup
    "kozistr.LinearScheduler": "optimizer, t_max, max_lr, min_lr=0.0, init_lr=0.0, warmup_steps=0",
    "kozistr.CosineScheduler": "optimizer, t_max, max_lr, min_lr=0.0, init_lr=0.0, warmup_steps=0",
    "kozistr.PolyScheduler": "optimizer, poly_order=0.5, t_max=None, max_lr=None, min_lr=0.0, init_lr=0.0, "
    "warmup_steps=0",
    "kozistr.REXScheduler": "optimizer, total_steps, max_lr=1.0, min_lr=0.0",
    "kozistr.ProportionScheduler": "lr_scheduler, max_lr, min_lr=0.0, max_value=2.0, min_value=2.0",
    "kozistr.get_wsd_schedule": "optimizer, num_warmup_steps, num_stable_steps, num_decay_steps, min_lr_ratio=0.0, "
    "num_cycles=0.5, cooldown_type='1-sqrt'",
    "kozistr.get_chebyshev_schedule": "optimizer, num_epochs, is_warmup=False",
    "pytorch_warmup.UntunedLinearWarmup": "optimizer",
    "pytorch_warmup.UntunedExponentialWarmup": "optimizer",
    "pytorch_warmup.LinearWarmup": "optimizer, warmup_period",
    "pytorch_warmup.ExponentialWarmup": "optimizer, warmup_period",
    "pytorch_warmup.RAdamWarmup": "optimizer",
    # DeepSpeed, Composer, Megatron, NeMo, mmengine, and others
    "deepspeed.OneCycle": "optimizer, cycle_min_lr, cycle_max_lr, decay_lr_rate=0.0, cycle_first_step_size=2000, "
    "cycle_second_step_size=None, cycle_first_stair_count=0, cycle_second_stair_count=None, decay_step_size=0, "
    "cycle_momentum=True, cycle_min_mom=0.8, cycle_max_mom=0.9, decay_mom_rate=0.0",
    "deepspeed.WarmupLR": "optimizer, warmup_min_lr=0.0, warmup_max_lr=None, warmup_num_steps=1000, warmup_type='log'",
    "deepspeed.WarmupDecayLR": "optimizer, total_num_steps, warmup_min_lr=0.0, warmup_max_lr=0.001, "
    "warmup_num_steps=1000, warmup_type='log'",
    "deepspeed.WarmupCosineLR": "optimizer, total_num_steps, warmup_min_ratio=0.0, warmup_num_steps=1000, "
    "cos_min_ratio=0.0001, warmup_type='log'",
    "deepspeed.LRRangeTest": "optimizer, lr_range_test_min_lr=0.001, lr_range_test_step_size=2000",
    "composer.ConstantScheduler": "alpha=1.0, t_max='1dur'",
    "composer.MultiStepWithWarmupScheduler": "t_warmup, milestones, gamma=0.1, scale_warmup=False",
    "composer.ConstantWithWarmupScheduler": "t_warmup, alpha=1.0, t_max='1dur', scale_warmup=False",
    "composer.LinearWithWarmupScheduler": "t_warmup, alpha_i=1.0, alpha_f=0.0, t_max='1dur', scale_warmup=False",
    "composer.CosineAnnealingWithWarmupScheduler": "t_warmup, t_max='1dur', alpha_f=0.0, scale_warmup=False",
    "composer.PolynomialWithWarmupScheduler": "t_warmup, power=2.0, t_max='1dur', alpha_f=0.0, scale_warmup=False",
    "megatron.OptimizerParamScheduler": "optimizer, init_lr, max_lr, min_lr, lr_warmup_steps, lr_decay_steps, "
    "lr_decay_style, start_wd, end_wd, wd_incr_steps, wd_incr_style, use_checkpoint_opt_param_scheduler=True, "
    "override_opt_param_scheduler=False, wsd_decay_steps=None, lr_wsd_decay_style=None",
    "gpt_neox.AnnealingLR": "lr_decay_style='linear', warmup=0.01, lr=None, min_lr=0.0",
    **{
        f"nemo.{name}": "warmup_steps=None, warmup_ratio=None, max_steps=None, min_lr=0.0, hold_steps=None, "
        "hold_ratio=None, constant_steps=None, constant_ratio=None"
        for name in (
            *("SquareRootAnnealing", "PolynomialHoldDecayAnnealing", "WarmupAnnealing", "CosineAnnealing"),
            *("T5InverseSquareRootAnnealing", "WarmupHoldPolicy"),
        )
    },
    "mmengine.LinearLR": f"optimizer=None, start_factor=0.3333333333333333, end_factor=1.0, {_MM}",
    "mmengine.ConstantLR": f"optimizer=None, factor=0.3333333333333333, {_MM}",
    "mmengine.CosineAnnealingLR": f"optimizer=None, T_max=None, eta_min=None, eta_min_ratio=None, {_MM}",
    "mmengine.CosineRestartLR": f"optimizer=None, periods=None, restart_weights=(1,), {_MM}",
    "olmo_core.CosWithWarmup": "warmup=None, warmup_steps=None",
    "olmo_core.LinearWithWarmup": "warmup=None, warmup_steps=None",
    "olmo_core.InvSqrtWithWarmup": "warmup=None, warmup_steps=None",
    "olmo_core.ExponentialScheduler": "lr_min=None",
    "nanotron.LRSchedulerArgs": "learning_rate, lr_warmup_steps=0, lr_warmup_style=None, lr_decay_style=None, "
    "lr_decay_steps=None, lr_decay_starting_step=None",
    "torchtitan.lr_scheduler": "total_steps=None, training_steps=None, decay_type='linear'",
    "paddle.NoamDecay": "d_model, warmup_steps, learning_rate=1.0",
    "mindspore.NaturalExpDecayLR": "learning_rate, decay_rate, decay_steps, is_stair=False",
    "bolts.LinearWarmupCosineAnnealingLR": "optimizer, warmup_epochs, max_epochs, warmup_start_lr=0.0, eta_min=0.0",
    "fairseq.inverse_sqrt": "warmup_updates=4000",
    "fairseq.tri_stage": "warmup_steps=0, hold_steps=0, decay_steps=0, phase_ratio=None",
    "fairseq.triangular": "lr_period_updates=5000",
}  # fmt: skip
"""The arguments of every scheduler (and of the optimizers that matter to one), written as a signature.

Only facts of the peers' interfaces: names, order, defaults. Those that no defect depends on are left out at the end.
"""
